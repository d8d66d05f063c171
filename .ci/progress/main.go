// Progress runs go test with its arguments. It reports each package when its first test begins and when its last one
// has ended, and prints the output of tests that fail, but of none that pass.
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
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM) // go test gets them too, and ends first
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

// report writes what matters of the events of go test, as they come.
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
			packages[e.Package] = &tested{to: to, output: map[string]string{}}
		}
		packages[e.Package].take(e)
	}
}

// tested is a package whose tests run.
type tested struct {
	to     io.Writer
	begun  bool
	tests  []string          // that have not passed, in the order in which they began; the empty one is the package
	output map[string]string // of these
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
		}
		delete(p.output, e.Test)
	case "fail":
		if e.Test == "" {
			p.failed()
		}
	}
}

// add keeps a line of output, but for the marks of go test -v.
func (p *tested) add(e event) {
	if strings.HasPrefix(e.Output, "=== ") {
		return
	}
	if _, known := p.output[e.Test]; !known {
		p.tests = append(p.tests, e.Test)
	}
	p.output[e.Test] += e.Output
}

// passed prints go test's own line for a package with tests.
func (p *tested) passed() {
	for line := range strings.Lines(p.output[""]) {
		if strings.HasPrefix(line, "ok ") {
			fmt.Fprint(p.to, line)
		}
	}
}

// failed prints the output of all tests that have failed, or were under way when the process ended, and then the
// package's.
func (p *tested) failed() {
	for _, test := range p.tests {
		if test != "" {
			fmt.Fprint(p.to, p.output[test])
		}
	}
	fmt.Fprint(p.to, p.output[""])
}
