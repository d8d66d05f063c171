package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// patience is the time limit for one SDK, including downloads.
const patience = 15 * time.Minute

// story is the expected output of each program.
//
//go:embed testdata/story.txt
var story string

// trial tests SDKs, each in its own directory.
type trial struct {
	root, dir, binary string
	fetched           bool // the jar has been downloaded
}

// test generates an SDK, builds it, and runs its program.
func (t *trial) test(ctx context.Context, s sdk) (r result) {
	began := time.Now()
	r = result{sdk: s}
	defer func() { r.took = time.Since(began) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if r.missing = missing(ctx, s.needs); len(r.missing) > 0 {
		return r
	}
	for _, step := range []struct {
		into *outcome
		do   func(context.Context, sdk) error
	}{{&r.generated, t.generate}, {&r.built, t.build}, {&r.ran, t.runProgram}} {
		if s.run == "" && step.into != &r.generated {
			continue
		}
		if r.err = step.do(ctx, s); r.err != nil {
			*step.into = failed
			return r
		}
		*step.into = passed
	}
	return r
}

// missing returns the names of the packages that are not installed.
func missing(ctx context.Context, needs []need) (names []string) {
	for _, n := range needs {
		if exec.CommandContext(ctx, "sh", "-c", n.probe).Run() != nil {
			names = append(names, n.name)
		}
	}
	return names
}

func (t *trial) generate(ctx context.Context, s sdk) error {
	if s.usesJar() && !t.fetched {
		if _, err := t.shell(ctx, t.dir, nil, fetchJar); err != nil {
			return err
		}
		t.fetched = true
	}
	if err := os.Mkdir(t.home(s), 0o755); err != nil {
		return err
	}
	// Generators print warnings about openapi.yaml to standard output or standard error.
	printed, err := t.shell(ctx, t.home(s), nil, mergeOutputs(s.generate)...)
	if err != nil {
		return err
	}
	if warned := warnings(printed, s.harmless); len(warned) > 0 {
		return fmt.Errorf("the generator warns:\n%s", tail(strings.Join(warned, "\n")))
	}
	return nil
}

// mergeOutputs makes commands print standard error to standard output.
func mergeOutputs(commands []string) (all []string) {
	for _, command := range commands {
		all = append(all, "exec 2>&1\n"+command)
	}
	return all
}

var warning = regexp.MustCompile(`\b(WARN|WARNING|ERROR)\b|\bWarning\b|⚠`)

// warnings returns the warnings in an output, without the harmless ones.
func warnings(printed string, harmless []string) (warned []string) {
	for l := range strings.Lines(printed) {
		known := func(text string) bool { return strings.Contains(l, text) }
		if warning.MatchString(l) && !slices.ContainsFunc(harmless, known) {
			warned = append(warned, strings.TrimSpace(l))
		}
	}
	return warned
}

func (t *trial) build(ctx context.Context, s sdk) error {
	_, err := t.shell(ctx, t.home(s), nil, s.build...)
	return err
}

// runProgram starts the server and a receiver, runs the program, and compares its output and the events with the
// expected ones.
func (t *trial) runProgram(ctx context.Context, s sdk) (err error) {
	r, err := newReceiver(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer r.close()
	server, err := lab.Start(ctx, t.binary, "sqlite:"+filepath.Join(t.home(s), "agentevents.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := server.Ready(ctx); err != nil {
		return err
	}
	printed, err := t.shell(ctx, t.home(s), []string{
		"BASE_URL=" + server.URL + "/api/ver1.0",
		"CLIENT_ID=" + lab.OperatorID,
		"CLIENT_SECRET=" + lab.OperatorSecret,
		"RECEIVER_URL=" + r.url,
	}, s.run)
	if err != nil {
		return err
	}
	return errors.Join(differs("the output", printed, story), differs("the received events", r.sorted(), received))
}

func (t *trial) home(s sdk) string { return filepath.Join(t.dir, s.name) }

// shell runs commands in order until one fails, and returns their standard output.
func (t *trial) shell(ctx context.Context, dir string, env []string, commands ...string) (string, error) {
	var printed strings.Builder
	for _, command := range commands {
		var problems strings.Builder
		cmd := inGroup(exec.CommandContext(ctx, "sh", "-euc", command))
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "agentevents="+t.root), env...)
		cmd.Stderr = &problems
		out, err := cmd.Output()
		printed.Write(out)
		if err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command, err, tail(string(out)+problems.String()))
		}
	}
	return printed.String(), nil
}

// inGroup makes a command end together with its child processes when its context ends.
func inGroup(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// maxErrorLines is the number of lines of a failed command's output in an error.
const maxErrorLines = 30

// tail returns the last lines of a text.
func tail(text string) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-maxErrorLines):], "\n")
}

// differs returns an error with the first line in which two texts differ.
func differs(what, got, want string) error {
	g, w := strings.Split(strings.TrimSpace(got), "\n"), strings.Split(strings.TrimSpace(want), "\n")
	for i := range max(len(g), len(w)) {
		is, should := line(g, i), line(w, i)
		if is != should {
			return fmt.Errorf("%s differs in line %d:\n  got   %s\n  want  %s", what, i+1, is, should)
		}
	}
	return nil
}

func line(lines []string, i int) string {
	if i >= len(lines) {
		return "(nothing)"
	}
	return strings.TrimRight(lines[i], "\r")
}
