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

// runCommand runs a command until it exits.
func runCommand(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, env, &out, &errs)
	return code, out.String(), errs.String()
}

// allCommands are the commands, without groups of commands.
var allCommands = []string{
	"serve", "version", "application create", "application list", "application revoke", "verify", "backup", "copy",
	"new-epoch", "rotate-key",
}

func TestHelpListsEveryCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"-h"}} {
		code, help, stderr := runCommand(t, nil, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit code %d, standard error %q", args, code, stderr)
		}
		for _, command := range allCommands {
			if !strings.Contains(help, "\n  "+command+" ") {
				t.Errorf("%q does not list %s:\n%s", args, command, help)
			}
		}
	}
}

// The help of each command fits on a screen of 48 lines and has an example that the command line accepts. Every
// variable that it names is a setting.
func TestHelpFitsOnAScreenWithAnExample(t *testing.T) {
	for _, command := range allCommands {
		_, help, _ := runCommand(t, nil, append(strings.Fields(command), "--help")...)
		if n := strings.Count(help, "\n"); n > 48 {
			t.Errorf("the help of %s has %d lines", command, n)
		}
		example := regexp.MustCompile(`(?m)^    agentevents (` + command + `.*)$`).FindStringSubmatch(help)
		if example == nil {
			t.Errorf("the help of %s has no example:\n%s", command, help)
			continue
		}
		var line commands
		got, err := parse(&line, strings.Fields(example[1]), nil, io.Discard, io.Discard)
		if err != nil || !strings.HasPrefix(got, command) {
			t.Errorf("%s is %q, %v", example[0], got, err)
		}
		for _, name := range regexp.MustCompile(prefix+`\w+`).FindAllString(help, -1) {
			if !slices.Contains(line.known, name) {
				t.Errorf("the help of %s names %q", command, name)
			}
		}
	}
}

func TestHelpOfServeExplainsEverySetting(t *testing.T) {
	_, help, _ := runCommand(t, nil, "serve", "--help")
	for _, part := range []string{
		`--addr="127.0.0.1:8080"`, "--metrics-addr", `--database-url="sqlite:agentevents.db"`, "sqlite:PATH",
		"--allow-networks", "--deny-networks", "--trusted-proxies", "X-Forwarded-For",
		`--timeout="10s"`, `--retry-window="24h"`,
		`--retry-schedule="5s,30s,2m,10m,30m,1h"`, `--deploy-window="15m"`, `--retry-jitter="20%"`, `--drain="5s"`,
		`--keep="720h"`, `--keep-rows="1000000"`, "--operator-id", "--operator-secret-file",
		"AGENTEVENTS_OPERATOR_SECRET ", "--encryption-key-file", "AGENTEVENTS_ENCRYPTION_KEY ", `--log-level="info"`,
		`--log-format="text"`,
	} {
		if !strings.Contains(help, part) {
			t.Errorf("the help does not explain %q:\n%s", part, help)
		}
	}
}

// Exactly one of --client and --operator is required, so the usage line marks neither as required.
func TestHelpOfApplicationCreateRequiresOneOwner(t *testing.T) {
	_, help, _ := runCommand(t, nil, "application", "create", "--help")
	help = strings.Join(strings.Fields(help), " ")
	for _, part := range []string{
		"Usage: agentevents application create --name=NAME [flags] ", "This or --operator is required.",
		"This or --client is required.",
	} {
		if !strings.Contains(help, part) {
			t.Errorf("%q is missing in %s", part, help)
		}
	}
}

// The database of a copy may have other programs' tables.
func TestHelpOfCopyNamesTheTarget(t *testing.T) {
	_, help, _ := runCommand(t, nil, "copy", "--help")
	if help = strings.Join(strings.Fields(help), " "); !strings.Contains(help,
		"must hold nothing of agentevents") {
		t.Error(help)
	}
}

func TestVersionReportsTheBuild(t *testing.T) {
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

func TestInvalidCommandLinesAreUsageErrors(t *testing.T) {
	for name, args := range map[string][]string{
		"swerve": {"swerve"}, "--listen": {"serve", "--listen=:1"}, "--addr": {"serve", "--addr"},
		"extra": {"serve", "extra"}, "see agentevents serve --help": {"serve", "--listen=:1"},
		"see agentevents application create --help": {"application", "create", "--operator"},
		"see agentevents --help":                    {"swerve"},
		"--keep must stand after the command":       {"--keep=1h", "serve"},
		"--name must stand after the command":       {"application", "--name", "PBX", "create", "--operator"},
	} {
		code, out, stderr := runCommand(t, nil, args...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, name) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, output %q, standard error %q", args, code, out, stderr)
		}
	}
}

func TestUnknownVariablesAreListed(t *testing.T) {
	known := []string{"AGENTEVENTS_ADDR"}
	got := variables([]string{
		"AGENTEVENTS_LISTEN=1", "AGENTEVENTS_ADDR=:1", "AGENT=1", "AGENTEVENTS_=", "PATH=/bin",
	}).unknown(known)
	if strings.Join(got, " ") != "AGENTEVENTS_ AGENTEVENTS_LISTEN" {
		t.Errorf("unknown: %q", got)
	}
}
