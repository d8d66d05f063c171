package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A shell says which words the command has.
func TestCurlMakesTheRequestThatItStandsFor(t *testing.T) {
	const body = `{"agent_number":"+7 (812) $1 \\ \"x\""}`
	command := curl("CRM", "PUT", "/client/12/agent/remote/7", body)
	shell := exec.Command("sh", "-c", `curl() { for word; do printf '%s\n' "$word"; done; }; `+command)
	shell.Env = append(os.Environ(), "API=http://127.0.0.1:1/api/ver1.0", "CRM=abc")
	words, err := shell.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"-X", "PUT", "http://127.0.0.1:1/api/ver1.0/client/12/agent/remote/7", "-H", "Authorization: Bearer abc",
		"-H", "Content-Type: application/json", "-d", body, "",
	}, "\n")
	if string(words) != want {
		t.Errorf("the words of\n%s\nare\n%s\nwant\n%s", command, words, want)
	}
}

func TestLogKeepsTheOrder(t *testing.T) {
	const form = "z=1&extension_name=000%2A094%40ringme.ru&a=%2B7+%28812%29&empty="
	want := "[Mon Jan  1 00:00:00 0001] ------\n" +
		"[Mon Jan  1 00:00:00 0001] z => 1\n" +
		"[Mon Jan  1 00:00:00 0001] extension_name => 000*094@ringme.ru\n" +
		"[Mon Jan  1 00:00:00 0001] a => +7 (812)\n" +
		"[Mon Jan  1 00:00:00 0001] empty => "
	if got := phpLog(time.Time{}, form); got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
}

// A failed start returns an error that names the cause, and leaves no files.
func TestFailedStart(t *testing.T) {
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"no such program": {
			[]string{"-binary", "/nonexistent/agentevents"}, []string{"start the server", "/nonexistent/agentevents"},
		},
		"it ends at once": {
			[]string{"-binary", script("echo the file is broken >&2; exit 3")},
			[]string{"ended before it was ready", "exit status 3", "the file is broken"},
		},
		"unknown argument": {[]string{"-colour"}, []string{"-colour"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			var out bytes.Buffer
			err := run(t.Context(), c.args, &out, io.Discard)
			if err == nil {
				t.Fatalf("no error; it printed\n%s", out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error %q does not say %q", err, want)
				}
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}
