package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// guides are the documents that say what is where.
var guides = []string{".github/CONTRIBUTING.md", ".github/SECURITY.md"}

// inBackquotes finds what may be a path. A capital stands for a name that the reader chooses.
var inBackquotes = regexp.MustCompile("`([a-z0-9_./]+/[a-z0-9_./]*|[a-z0-9_]+\\.(?:go|md|yaml))`")

// missingPaths lists the paths that a guide names and that are not there.
func missingPaths(t *tree) (n int, places []string) {
	for _, guide := range guides {
		text, err := os.ReadFile(filepath.Join(t.root, guide))
		if err != nil {
			places = append(places, err.Error())
			continue
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, found := range inBackquotes.FindAllStringSubmatch(line, -1) {
				if !t.has(found[1]) {
					places = append(places, fmt.Sprintf("%s:%d: there is no %s", guide, i+1, found[1]))
				}
			}
		}
	}
	return len(places), places
}

// has says whether a path is there: a file by its name alone may be in any directory.
func (t *tree) has(name string) bool {
	if strings.Contains(name, "/") {
		_, err := os.Stat(filepath.Join(t.root, name))
		return err == nil
	}
	for _, f := range t.files {
		if strings.HasSuffix("/"+f.path, "/"+name) {
			return true
		}
	}
	_, err := os.Stat(filepath.Join(t.root, name))
	return err == nil
}
