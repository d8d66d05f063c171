package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// gen/README.md has the commands that this program runs.
func TestReadmeHasTheCommands(t *testing.T) {
	text, err := os.ReadFile("../../gen/README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	if !strings.Contains(readme, "\n"+fetchJar+"\n") {
		t.Errorf("gen/README.md lacks the command\n%s", fetchJar)
	}
	for _, s := range sdks {
		_, section, found := strings.Cut(readme, "\n## "+s.name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if want := block(s); !found || !strings.Contains(section, want) {
			t.Errorf("gen/README.md has no section %q with the commands\n%s", s.name, want)
		}
		if !strings.Contains(section, s.tool) {
			t.Errorf("the section %q of gen/README.md lacks the tool %s", s.name, s.tool)
		}
		for _, n := range s.needs {
			if !strings.Contains(section, "`"+n.name+"`") {
				t.Errorf("the section %q of gen/README.md lacks the package %s", s.name, n.name)
			}
		}
	}
}

// block returns the commands of an SDK in the form of gen/README.md.
func block(s sdk) string {
	lines := []string{"mkdir " + s.name, "cd " + s.name}
	lines = append(append(lines, s.generate...), s.build...)
	if s.run != "" {
		lines = append(lines, s.run)
	}
	return fmt.Sprintf("```shell\n%s\n```\n", strings.Join(append(lines, "cd .."), "\n"))
}

// The version of every tool is pinned. The machine chooses the registry from which it is downloaded.
func TestToolVersionsArePinned(t *testing.T) {
	for file, want := range map[string][]string{
		"openapi-fetch/package.json": {
			`"openapi-typescript": "` + openAPITypeScript + `"`, `"openapi-fetch": "` + openAPIFetch + `"`,
		},
		"hey-api/package.json":                  {`"@hey-api/openapi-ts": "` + heyAPI + `"`},
		"openapi-python-client/constraints.txt": {"openapi-python-client==" + openAPIPythonClient},
		"typescript-fetch/package.json":         {`"typescript": "5.`},
		"python/constraints.txt":                {"pydantic=="},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, pin := range want {
			if !strings.Contains(string(text), pin) {
				t.Errorf("%s does not pin %s", file, pin)
			}
		}
		if loose := regexp.MustCompile(`"[\^~]|>=|://`).FindString(string(text)); loose != "" {
			t.Errorf("%s has %s, which is not a pinned version or names a host", file, loose)
		}
	}
}

func TestEachSDKHasAProgram(t *testing.T) {
	ran := map[string]bool{}
	for _, s := range sdks {
		ran[s.name] = s.run != ""
	}
	dirs, err := fs.Glob(os.DirFS("testdata"), "*/[sS]tory.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dirs {
		if name := filepath.Dir(path); !ran[name] {
			t.Errorf("testdata/%s belongs to no SDK", path)
		} else {
			delete(ran, name)
		}
	}
	for name, runs := range ran {
		if runs {
			t.Errorf("%s has no program in testdata/", name)
		}
	}
}

func TestChooseSelectsByName(t *testing.T) {
	names := func(chosen []sdk) string {
		var all []string
		for _, s := range chosen {
			all = append(all, s.name)
		}
		return strings.Join(all, ",")
	}
	all := []sdk{{name: "a"}, {name: "b"}, {name: "c"}}
	for only, want := range map[string]string{"": "a,b,c", "c, a": "a,c"} {
		if chosen, err := choose(all, only); err != nil || names(chosen) != want {
			t.Errorf("%q chooses %s (%v), want %s", only, names(chosen), err, want)
		}
	}
	if _, err := choose(all, "a,x"); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("an unknown SDK: %v", err)
	}
}

// An SDK that was not run is not reported as passed.
func TestResultsReportMissingPackages(t *testing.T) {
	runs := sdk{name: "a", tool: "t 1", run: "./a"}
	results := []result{
		{sdk: runs, generated: passed, built: passed, ran: passed, took: 2 * time.Second},
		{sdk: sdk{name: "b", tool: "t 1"}, generated: passed, took: time.Second},
		{sdk: runs, missing: []string{"php-cli", "php-curl"}},
		{sdk: runs, generated: passed, built: failed, err: errors.New("it does not compile"), took: time.Second},
	}
	want := `SDK  generator  generated  built   ran  seconds  remark
a    t 1        ok         ok      ok   2
b    t 1        ok         -       -    1        generated only
a    t 1        -          -       -    0        not run, missing: php-cli, php-curl
a    t 1        ok         FAILED  -    1        error above
`
	if got := table(results); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
	if err := verdict(results[:3], false); err != nil {
		t.Errorf("a missing tool fails a run that does not require it: %v", err)
	}
	if err := verdict(results[:3], true); err == nil || !strings.Contains(err.Error(), "php-curl missing") {
		t.Errorf("a missing tool in CI: %v", err)
	}
	if err := verdict(results[3:], false); err == nil {
		t.Error("a failed SDK is not an error")
	}
}

// Each step runs only if the step before it passed. The error has the output of the failed step.
func TestTrialStopsAtTheFirstFailure(t *testing.T) {
	for name, c := range map[string]struct {
		sdk
		want    result
		message string
	}{
		"a package is missing": {
			sdk{needs: []need{{"nothing", "true"}, {"a tool", "false"}}}, result{missing: []string{"a tool"}}, "",
		},
		"an SDK without a program": {sdk{generate: []string{"true"}}, result{generated: passed}, ""},
		"the generator warns": {
			sdk{generate: []string{"echo [main] WARN no schema >&2"}, run: "true"},
			result{generated: failed},
			"no schema",
		},
		"the generator prints a harmless warning": {
			sdk{generate: []string{"echo WARN a name"}, harmless: []string{"a name"}}, result{generated: passed}, "",
		},
		"the generator fails": {
			sdk{generate: []string{"echo no schema >&2; false"}, run: "true"}, result{generated: failed}, "no schema",
		},
		"the build fails": {
			sdk{build: []string{"true", "echo line 7; exit 3"}, run: "true"},
			result{generated: passed, built: failed},
			"line 7",
		},
		"the server does not start": {
			sdk{run: "true"}, result{generated: passed, built: passed, ran: failed}, "start the server",
		},
		"the commands get the path of the repository": {
			sdk{generate: []string{`test "$agentevents" = /repository`}}, result{generated: passed}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			trial := &trial{root: "/repository", dir: t.TempDir(), binary: "/nonexistent/agentevents"}
			c.name = "some"
			r := trial.test(t.Context(), c.sdk)
			if r.generated != c.want.generated || r.built != c.want.built || r.ran != c.want.ran ||
				strings.Join(r.missing, ",") != strings.Join(c.want.missing, ",") {
				t.Errorf("the result is %+v, want %+v", r, c.want)
			}
			if (r.err == nil) != (c.message == "") || r.err != nil && !strings.Contains(r.err.Error(), c.message) {
				t.Errorf("the error is %v, want %q", r.err, c.message)
			}
		})
	}
}

func TestDiffersReportsTheFirstDifference(t *testing.T) {
	if err := differs("it", "a\r\nb\n", "a\nb\n"); err != nil {
		t.Error(err)
	}
	for got, want := range map[string]string{"a": "(nothing)", "a\nc": "c", "a\nb\nd": "line 3", "": "line 1"} {
		if err := differs("it", got, "a\nb\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", got, err)
		}
	}
}

// The receiver prints events in the form of received.
func TestReceiverPrintsEvents(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := newReceiver(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var printed bytes.Buffer
	r.show = &printed
	for _, form := range []url.Values{
		{
			"agent_status": {"available"}, "agent_type": {"remote"}, "event_source": {"api"}, "agent_id": {"7"},
			"agent_number": {"Доб. *7@Юг"},
		},
		{
			"agent_status": {"available"}, "agent_type": {"local"}, "event_source": {"api"}, "agent_id": {"136"},
			"extension_name": {"000*094@ringme.ru"},
		},
	} {
		resp, err := http.PostForm(r.url, form)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if r.sorted() != received {
		t.Errorf("received\n%s\nwant\n%s", r.sorted(), received)
	}
	if lines := strings.Count(printed.String(), "\n"); lines != 2 {
		t.Errorf("%d lines are printed: %s", lines, printed.String())
	}
}
