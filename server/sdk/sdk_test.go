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

// The commands in gen/README.md are those that this program runs.
func TestReadmeHasTheCommands(t *testing.T) {
	text, err := os.ReadFile("../../gen/README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	if !strings.Contains(readme, "\n"+fetchJar+"\n") {
		t.Errorf("gen/README.md does not get the generator by\n%s", fetchJar)
	}
	for _, s := range sdks {
		_, section, found := strings.Cut(readme, "\n## "+s.name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if want := block(s); !found || !strings.Contains(section, want) {
			t.Errorf("gen/README.md has no section %q with the commands\n%s", s.name, want)
		}
		if !strings.Contains(section, s.tool) {
			t.Errorf("the section %q of gen/README.md does not name %s", s.name, s.tool)
		}
		for _, n := range s.needs {
			if !strings.Contains(section, "`"+n.name+"`") {
				t.Errorf("the section %q of gen/README.md does not say that %s is needed", s.name, n.name)
			}
		}
	}
}

// block is the commands of an SDK as gen/README.md has them.
func block(s sdk) string {
	lines := []string{"mkdir " + s.name, "cd " + s.name}
	lines = append(append(lines, s.generate...), s.build...)
	if s.tell != "" {
		lines = append(lines, s.tell)
	}
	return fmt.Sprintf("```shell\n%s\n```\n", strings.Join(append(lines, "cd .."), "\n"))
}

// Every SDK is of a pinned version, and what it was downloaded from is the choice of the machine.
func TestPins(t *testing.T) {
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
			t.Errorf("%s has %s, which pins nothing or names a host", file, loose)
		}
	}
}

func TestEveryStoryIsOfAnSDK(t *testing.T) {
	told := map[string]bool{}
	for _, s := range sdks {
		told[s.name] = s.tell != ""
	}
	dirs, err := fs.Glob(os.DirFS("testdata"), "*/[sS]tory.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dirs {
		if name := filepath.Dir(path); !told[name] {
			t.Errorf("testdata/%s is run for no SDK", path)
		} else {
			delete(told, name)
		}
	}
	for name, tells := range told {
		if tells {
			t.Errorf("%s has no story in testdata/", name)
		}
	}
}

func TestChoose(t *testing.T) {
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
		t.Errorf("an SDK that is not there: %v", err)
	}
}

// What was not run is never said to have passed.
func TestResults(t *testing.T) {
	tells := sdk{name: "a", tool: "t 1", tell: "./a"}
	results := []result{
		{sdk: tells, generated: passed, built: passed, told: passed, took: 2 * time.Second},
		{sdk: sdk{name: "b", tool: "t 1"}, generated: passed, took: time.Second},
		{sdk: tells, missing: []string{"php-cli", "php-curl"}},
		{sdk: tells, generated: passed, built: failed, err: errors.New("it does not compile"), took: time.Second},
	}
	want := `SDK  made by  generated  built   story  seconds  remark
a    t 1      ok         ok      ok     2
b    t 1      ok         -       -      1        generated only
a    t 1      -          -       -      0        not run, missing: php-cli, php-curl
a    t 1      ok         FAILED  -      1        see above
`
	if got := table(results); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
	if err := verdict(results[:3], false); err != nil {
		t.Errorf("a missing tool fails a run that does not require it: %v", err)
	}
	if err := verdict(results[:3], true); err == nil || !strings.Contains(err.Error(), "php-curl missing") {
		t.Errorf("what is missing in CI: %v", err)
	}
	if err := verdict(results[3:], false); err == nil {
		t.Error("what has failed is no error")
	}
}

// Each step is run only after the one before it, and what fails says why.
func TestTrial(t *testing.T) {
	for name, c := range map[string]struct {
		sdk
		want result
		says string
	}{
		"something is missing": {
			sdk{needs: []need{{"nothing", "true"}, {"a tool", "false"}}}, result{missing: []string{"a tool"}}, "",
		},
		"it is only generated": {sdk{generate: []string{"true"}}, result{generated: passed}, ""},
		"it is not understood": {
			sdk{generate: []string{"echo [main] WARN no schema >&2"}, tell: "true"},
			result{generated: failed},
			"no schema",
		},
		"a warning is harmless": {
			sdk{generate: []string{"echo WARN a name"}, harmless: []string{"a name"}}, result{generated: passed}, "",
		},
		"it is not generated": {
			sdk{generate: []string{"echo no schema >&2; false"}, tell: "true"}, result{generated: failed}, "no schema",
		},
		"it does not compile": {
			sdk{build: []string{"true", "echo line 7; exit 3"}, tell: "true"},
			result{generated: passed, built: failed},
			"line 7",
		},
		"there is no server": {
			sdk{tell: "true"}, result{generated: passed, built: passed, told: failed}, "start the server",
		},
		"it knows where we are": {
			sdk{generate: []string{`test "$agentevents" = /root-of-it`}}, result{generated: passed}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			trial := &trial{root: "/root-of-it", dir: t.TempDir(), binary: "/nonexistent/agentevents"}
			c.name = "some"
			r := trial.try(t.Context(), c.sdk)
			if r.generated != c.want.generated || r.built != c.want.built || r.told != c.want.told ||
				strings.Join(r.missing, ",") != strings.Join(c.want.missing, ",") {
				t.Errorf("the result is %+v, want %+v", r, c.want)
			}
			if (r.err == nil) != (c.says == "") || r.err != nil && !strings.Contains(r.err.Error(), c.says) {
				t.Errorf("the error is %v and should say %q", r.err, c.says)
			}
		})
	}
}

func TestDiffers(t *testing.T) {
	if err := differs("it", "a\r\nb\n", "a\nb\n"); err != nil {
		t.Error(err)
	}
	for got, want := range map[string]string{"a": "(nothing)", "a\nc": "c", "a\nb\nd": "line 3", "": "line 1"} {
		if err := differs("it", got, "a\nb\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", got, err)
		}
	}
}

// What the receiver of the story is compared with is what a receiver prints.
func TestReceiver(t *testing.T) {
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
		t.Errorf("shown are %d lines: %s", lines, printed.String())
	}
}
