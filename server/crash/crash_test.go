package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/lab"
)

// build builds the program, with the race detector if the test has it.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "agentevents")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, race) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "..")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// TestCrash runs the first part of make crash with few faults. The number of requests in flight at a kill is random, so
// it is not checked.
func TestCrash(t *testing.T) {
	binary := build(t)
	t.Run("each fault", func(t *testing.T) { testEachFault(t, binary) })
	t.Run("interrupted", func(t *testing.T) { testInterrupted(t, binary) })
}

func testEachFault(t *testing.T, binary string) {
	tmp := temporary(t)
	var out bytes.Buffer
	err := run(t.Context(), []string{"-binary", binary, "-faults", "12"}, &out, io.Discard)
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		`killed after some requests +2\n`, `killed while it makes its store +1\n`, `a second server on its file +1\n`,
		`killed, and a lane damaged +1\n`, `each follower of the feed saw +[1-9]`,
		`changes of status +[1-9]`, `requests arrived +[1-9]`, `lost +0\n`,
		`out of order +0\n`, `needless duplicates +0\n`, `mismatched +0\n`, `late +0\n`, `complaints +0\n`,
	} {
		if !regexp.MustCompile(row).MatchString(out.String()) {
			t.Errorf("there is no %q", row)
		}
	}
	isEmpty(t, tmp)
}

func testInterrupted(t *testing.T, binary string) {
	tmp := temporary(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := writerFunc(func(text []byte) {
		if bytes.Contains(text, []byte("fault 1 after")) {
			cancel()
		}
	})
	err := run(ctx, []string{"-binary", binary, "-faults", "9"}, out, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	isEmpty(t, tmp)
}

// temporary returns the directory in which a run creates its temporary directory.
func temporary(t *testing.T) string {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	return tmp
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// An error names its cause, and the directory in which the store is left.
func TestRunReportsFailures(t *testing.T) {
	script := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho the file is broken >&2; exit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"no such program": {
			[]string{"-binary", "/nonexistent/agentevents", "-faults", "1"},
			[]string{"/nonexistent/agentevents", "the store is left in "},
		},
		"it ends at once": {
			[]string{"-binary", script, "-seed", "5", "-faults", "1"},
			[]string{"ended before it was ready", "the file is broken", "the seed was 5"},
		},
		"unknown argument": {[]string{"-colour"}, []string{"-colour"}},
		"no faults":        {[]string{"-faults", "0"}, []string{"faults"}},
		"one replica":      {[]string{"-replicas", "1", "-faults", "1"}, []string{"from 2 to 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			temporary(t)
			err := run(t.Context(), c.args, io.Discard, io.Discard)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error %q does not say %q", err, want)
				}
			}
		})
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// A report prints the first 30 violations, and counts all.
func TestReportOfManyViolations(t *testing.T) {
	var out bytes.Buffer
	c := newCrash(options{}, "", &lab.Progress{Out: &out})
	c.followers = []*follower{{}}
	for range 33 {
		c.record.Wrong(lab.Lost, "change 1")
	}
	if err := c.report(); err == nil {
		t.Error("no error")
	}
	if n := strings.Count(out.String(), "lost: change 1"); n != 30 || !strings.Contains(out.String(), "lost  33\n") {
		t.Errorf("%d violations are printed:\n%s", n, out.String())
	}
}
