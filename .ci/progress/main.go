// Progress runs go test with its arguments. It reports each package when its first test begins and when its last test
// has ended. It prints the output of failed tests only, and the reason for which a test was skipped.
//
//	go run ./.ci/progress -timeout 60m ./...
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// event is a line of go test -json (see go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string // empty for the package itself
	Output  string // a line
}

func main() {
	// go test gets the signals as well, and ends first
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	args := append([]string{"test", "-json"}, os.Args[1:]...)
	cmd := exec.CommandContext(context.Background(), "go", args...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = errors.Join(report(events, os.Stdout), cmd.Wait())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go test:", err)
		os.Exit(1)
	}
}

// report converts the events of go test to the report, one at a time.
func report(events io.Reader, to io.Writer) error {
	lines, packages := bufio.NewReader(events), map[string]*tested{}
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%w in %s", err, line)
		}
		if packages[e.Package] == nil {
			packages[e.Package] = &tested{to: to, name: e.Package, output: map[string]string{}}
		}
		packages[e.Package].take(e)
	}
}

// tested is a package under test.
type tested struct {
	to     io.Writer
	name   string
	begun  bool
	tests  []string          // tests that have not passed, in the order of their start; "" is the package
	output map[string]string // output of these tests
	skips  []skip
}

// skip is a reason for which tests were skipped.
type skip struct {
	reason string
	tests  []string
}

func (p *tested) take(e event) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(p.to, e.Output)
	case "run":
		if !p.begun {
			fmt.Fprintf(p.to, "...\t%s\n", e.Package)
		}
		p.begun = true
	case "output":
		p.add(e)
	case "pass", "skip":
		if e.Test == "" {
			p.passed()
		} else if e.Action == "skip" {
			p.skipped(e.Test)
		}
		delete(p.output, e.Test)
	case "fail":
		if e.Test == "" {
			p.failed()
		}
	}
}

// add records a line of output, except the marks of go test -v.
func (p *tested) add(e event) {
	if strings.HasPrefix(e.Output, "=== ") {
		return
	}
	if _, known := p.output[e.Test]; !known {
		p.tests = append(p.tests, e.Test)
	}
	p.output[e.Test] += e.Output
}

// logged is a line that a test has logged.
var logged = regexp.MustCompile(`(?m)^\s*\S+\.go:\d+: (.*)$`)

// skipped notes why a test was skipped, which is the last line of its log. Tests that are about the other engine alone
// are left out (see package pgtest).
func (p *tested) skipped(test string) {
	lines := logged.FindAllStringSubmatch(p.output[test], -1)
	if lines == nil {
		return
	}
	reason := lines[len(lines)-1][1]
	if strings.HasPrefix(reason, "on SQLite alone: ") || strings.HasPrefix(reason, "on PostgreSQL alone: ") {
		return
	}
	at := slices.IndexFunc(p.skips, func(s skip) bool { return s.reason == reason })
	if at < 0 {
		at, p.skips = len(p.skips), append(p.skips, skip{reason: reason})
	}
	p.skips[at].tests = append(p.skips[at].tests, test)
}

// passed prints the reasons for skipped tests, and the line of go test, for a package with tests.
func (p *tested) passed() {
	p.printSkips()
	for line := range strings.Lines(p.output[""]) {
		if strings.HasPrefix(line, "ok ") {
			fmt.Fprint(p.to, line)
		}
	}
}

func (p *tested) printSkips() {
	for _, s := range p.skips {
		fmt.Fprintf(p.to, "skipped\t%s\t%s: %s\n", p.name, strings.Join(s.tests, ", "), s.reason)
	}
}

// failed prints the output of all tests that failed or were running when the process ended, and then the package's.
func (p *tested) failed() {
	p.printSkips()
	for _, test := range p.tests {
		if test != "" {
			fmt.Fprint(p.to, p.output[test])
		}
	}
	fmt.Fprint(p.to, p.output[""])
}
