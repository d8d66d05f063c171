package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/agentevents/agentevents"

// layers are the packages from the highest layer to the lowest. A package imports only lower layers, so packages of one
// layer do not import each other. .golangci.yml has stricter rules for each package; this list also finds packages
// without a rule.
var layers = [][]string{
	{"server/e2e", "server/bench", "server/crash", "server/demo", "server/sdk"},
	{"server/lab"},
	{"server"},
	{"server/internal/servertest"},
	{"server/internal/api"},
	{"server/internal/auth", "server/internal/telemetry"},
	{"server/internal/contract"},
	{"server/internal/request"},
	{"store/benchfill"},
	{"store"},
	{"store/internal/sqlite", "store/internal/postgres"},
	{"store/internal/schema", "store/internal/sqldb"},
	{"store/internal/diskfault", "store/pgtest"},
	{"webhook"},
	{"gen/api", "gen/client"},
	{"gen"},
}

func layerOf(dir string) int {
	return slices.IndexFunc(layers, func(packages []string) bool { return slices.Contains(packages, dir) })
}

// upward lists the imports of programs that do not point to a lower layer, and the packages without a layer.
func upward(t *tree) (n int, places []string) {
	unlisted := map[string]bool{}
	for _, f := range t.files {
		if !f.program() || strings.HasPrefix(f.path, ".ci/") {
			continue
		}
		from := layerOf(f.dir())
		if from < 0 && !unlisted[f.dir()] {
			unlisted[f.dir()] = true
			places = append(places, fmt.Sprintf("%s has no layer in .ci/house/arrows.go", f.dir()))
		}
		for _, i := range f.syntax.Imports {
			name, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
			to, own := strings.CutPrefix(name, module+"/")
			if own && from >= 0 && from >= layerOf(to) {
				places = append(places, fmt.Sprintf("%s: %s imports %s", t.at(i.Pos()), f.dir(), to))
			}
		}
	}
	return len(places), places
}
