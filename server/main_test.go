package main

import (
	"bytes"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// runCommand runs the program to its end.
func runCommand(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, env, &out, &errs)
	return code, out.String(), errs.String()
}

func TestHelpExplainsEverything(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"-h"}, {"serve", "--help"}} {
		code, help, stderr := runCommand(t, nil, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit code %d, standard error %q", args, code, stderr)
		}
		for _, part := range []string{
			"AGENTEVENTS_ADDR", "127.0.0.1:8080", "AGENTEVENTS_METRICS_ADDR", "/metrics", "AGENTEVENTS_DATABASE_URL",
			"sqlite:agentevents.db", "sqlite:PATH",
			"AGENTEVENTS_ALLOW_NETWORKS", "AGENTEVENTS_TRUSTED_PROXIES", "X-Forwarded-For", "AGENTEVENTS_TIMEOUT",
			"10s", "AGENTEVENTS_RETRY_WINDOW", "24h",
			"AGENTEVENTS_RETRY_SCHEDULE", "5s,30s,2m,10m,30m,1h", "AGENTEVENTS_RETRY_JITTER", "20%",
			"AGENTEVENTS_DRAIN", "5s", "AGENTEVENTS_KEEP", "720h", "AGENTEVENTS_KEEP_ROWS", "1000000",
			"AGENTEVENTS_OPERATOR_ID", "AGENTEVENTS_OPERATOR_SECRET_FILE", "AGENTEVENTS_OPERATOR_SECRET ",
			"AGENTEVENTS_ENCRYPTION_KEY_FILE", "AGENTEVENTS_ENCRYPTION_KEY ", "AGENTEVENTS_LOG_LEVEL", "info",
			"AGENTEVENTS_LOG_FORMAT", "text",
		} {
			if !strings.Contains(help, part) {
				t.Errorf("%q does not explain %q:\n%s", args, part, help)
			}
		}
	}
}

// Every variable that --help names is a setting.
func TestHelpNamesOnlySettings(t *testing.T) {
	var line commands
	if _, err := parse(&line, []string{"version"}, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"serve", "verify", "backup", "copy", "new-epoch", "application create", "application list",
		"application revoke", "version",
	} {
		_, help, _ := runCommand(t, nil, append(strings.Fields(command), "--help")...)
		names := regexp.MustCompile(prefix+`\w+`).FindAllString(help, -1)
		unknown := slices.DeleteFunc(slices.Clone(names),
			func(name string) bool { return slices.Contains(line.known, name) })
		if len(names) == 0 || len(unknown) > 0 {
			t.Errorf("the help of %s names %q", command, unknown)
		}
	}
}

// Of --client and --operator one is required, but neither is by itself.
func TestHelpOfApplicationCreate(t *testing.T) {
	_, help, _ := runCommand(t, nil, "application", "create", "--help")
	help = strings.Join(strings.Fields(help), " ")
	for _, part := range []string{
		"Usage: agentevents application create --name=STRING [flags] ", "Either this or --operator is required.",
		"Either this or --client is required.",
	} {
		if !strings.Contains(help, part) {
			t.Errorf("%q is missing in %s", part, help)
		}
	}
}

// The database of a copy may have tables of other programs.
func TestHelpOfCopy(t *testing.T) {
	_, help, _ := runCommand(t, nil, "copy", "--help")
	if help = strings.Join(strings.Fields(help), " "); !strings.Contains(help,
		"nothing of this program may be in it yet") {
		t.Error(help)
	}
}

func TestVersion(t *testing.T) {
	code, out, stderr := runCommand(t, []string{"AGENTEVENTS_ADDR=nonsense"}, "version")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
	for _, part := range []string{"agentevents ", "commit ", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is missing:\n%s", part, out)
		}
	}
}

func TestInvalidCommandLines(t *testing.T) {
	for name, args := range map[string][]string{
		"swerve": {"swerve"}, "--listen": {"serve", "--listen=:1"}, "--addr": {"serve", "--addr"},
		"extra": {"serve", "extra"},
	} {
		code, out, stderr := runCommand(t, nil, args...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, name) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, output %q, standard error %q", args, code, out, stderr)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	known := []string{"AGENTEVENTS_ADDR"}
	got := variables([]string{
		"AGENTEVENTS_LISTEN=1", "AGENTEVENTS_ADDR=:1", "AGENT=1", "AGENTEVENTS_=", "PATH=/bin",
	}).unknown(known)
	if strings.Join(got, " ") != "AGENTEVENTS_ AGENTEVENTS_LISTEN" {
		t.Errorf("unknown: %q", got)
	}
}
