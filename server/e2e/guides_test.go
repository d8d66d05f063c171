package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

// root is the directory of the repository.
const root = "../.."

// Every block of a guide that is marked sh runs as it is printed, one after the other, in a shell with the variables
// that make run prints. Those that cannot be run here are marked shell. Of both, the make targets, the subcommands and
// the patterns of tests must exist.
func TestGuides(t *testing.T) {
	pgtest.SQLiteOnly(t, "make run serves a file")
	t.Parallel()
	for _, path := range guides(t) {
		t.Run(strings.TrimSuffix(path, "/README.md"), func(t *testing.T) {
			t.Parallel()
			g := readGuide(t, path)
			g.checkCommands(t)
			run := g.marked("sh")
			if len(run) == 0 || path == "README.md" { // whose receiver is one that it shows
				return
			}
			receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer receiver.Close()
			newGuideShell(t, strings.TrimPrefix(receiver.URL, "http://")).run(t, run)
		})
	}
}

// The quick start of the README: its receiver prints what the README says, once.
func TestQuickStart(t *testing.T) {
	pgtest.SQLiteOnly(t, "make run serves a file")
	t.Parallel()
	g := readGuide(t, "README.md")
	program, printed, addr, dir := g.marked("python"), g.marked("text"), freePort(t), t.TempDir()
	if len(program) != 1 || len(printed) != 1 {
		t.Fatalf("%d receivers in Python, and %d outputs", len(program), len(printed))
	}
	_, port, _ := strings.Cut(addr, ":")
	writeScript(t, dir, "receiver.py", strings.Replace(program[0].code, "9000", port, 1))
	receiver := background(t, exec.Command(installed(t, "python3", "python3"), filepath.Join(dir, "receiver.py")))
	eventually(t, "the receiver listens", func() bool { return receiver.ended() || listens("http://"+addr) })
	newGuideShell(t, addr).run(t, g.marked("sh"))
	_, request, _ := strings.Cut(printed[0].code, " ") // each delivery has another id
	line := regexp.MustCompile(`(?m)^msg_[A-Z2-7]+ ` + regexp.QuoteMeta(request))
	deliveries := func() int { return len(line.FindAllString(receiver.out.String(), -1)) }
	eventually(t, "it prints the delivery", func() bool { return receiver.ended() || deliveries() > 0 })
	equal(t, "deliveries", deliveries(), 1)
}

// The receiver in Go that the README shows compiles.
func TestReceiverOfTheReadme(t *testing.T) {
	pgtest.SQLiteOnly(t, "nothing is stored")
	t.Parallel()
	for _, b := range readGuide(t, "README.md").marked("go") {
		imports := ""
		for _, name := range []string{"errors", "log", "net/http", "os", "github.com/agentevents/agentevents/webhook"} {
			imports += fmt.Sprintf("import %q\n", name)
		}
		dir := t.TempDir()
		writeScript(t, dir, "receiver.go", "package main\n"+imports+"func main() {\n"+b.code+"}\n")
		buildSnippet(t, filepath.Join(dir, "receiver.go"))
	}
}

// guides are the paths of the documents, from the root on.
func guides(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "*/README.md", "server/*/README.md", ".github/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			paths = append(paths, strings.TrimPrefix(path, root+"/"))
		}
	}
	return paths
}

// guide is a document in Markdown.
type guide struct {
	path   string
	blocks []block
}

// block is a fenced block of code.
type block struct {
	at, language, code string // at is FILE:LINE
}

func readGuide(t *testing.T, path string) guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	g := guide{path: path}
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{at: fmt.Sprintf("%s:%d", path, i+1), language: fence}
		case isFence:
			g.blocks = append(g.blocks, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s: the block has no end", open.at)
	}
	return g
}

func (g guide) marked(language string) []block {
	return slices.DeleteFunc(slices.Clone(g.blocks), func(b block) bool { return b.language != language })
}

// How a guide calls make and the program, with variables before them.
var (
	callsMake    = regexp.MustCompile(`(?m)^(?:\w+=\S* )*make +([a-z][a-z-]*)`)
	callsProgram = regexp.MustCompile(`(?m)^(?:\w+=\S* )*(?:bin/)?agentevents +([a-z][a-z-]*)`)
)

// checkCommands checks that what the guide calls is there.
func (g guide) checkCommands(t *testing.T) {
	t.Helper()
	makefile := readFile(t, "Makefile")
	help, _, _ := command(t, nil, "--help")
	for _, b := range append(g.marked("sh"), g.marked("shell")...) {
		for _, m := range callsMake.FindAllStringSubmatch(b.code, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: make has no target %q", b.at, m[1])
			}
		}
		for _, m := range callsProgram.FindAllStringSubmatch(b.code, -1) {
			if !regexp.MustCompile(`(?m)\b` + m[1] + `\b`).MatchString(help) {
				t.Errorf("%s: agentevents has no command %q", b.at, m[1])
			}
		}
		b.checkPatterns(t)
	}
}

// checkPatterns checks that each pattern of go test matches a test, a benchmark or a fuzz target of its packages.
func (b block) checkPatterns(t *testing.T) {
	t.Helper()
	flag := regexp.MustCompile(`-(run|bench|fuzz)[ =]'?([^' ]+)'?`)
	prefix := map[string]string{"run": "Test", "bench": "Benchmark", "fuzz": "Fuzz"}
	for line := range strings.SplitSeq(b.code, "\n") {
		if !strings.Contains(line, "go test ") {
			continue
		}
		names := testNames(t, regexp.MustCompile(` (\./\S*)`).FindAllStringSubmatch(line, -1))
		for _, m := range flag.FindAllStringSubmatch(line, -1) {
			pattern, err := regexp.Compile(strings.SplitN(m[2], "/", 2)[0])
			if err != nil {
				t.Errorf("%s: %v", b.at, err)
				continue
			}
			none := m[2] == "xxx" || m[2] == "^$" // by which benchmarks are run without tests
			matches := func(name string) bool {
				return strings.HasPrefix(name, prefix[m[1]]) && pattern.MatchString(name)
			}
			if !none && !slices.ContainsFunc(names, matches) {
				t.Errorf("%s: -%s %s matches nothing", b.at, m[1], m[2])
			}
		}
	}
}

// testNames returns the names of the test functions in packages, ./... included.
func testNames(t *testing.T, packages [][]string) (names []string) {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w*)\(`)
	for _, p := range packages {
		dir, all := strings.CutSuffix(p[1], "...")
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if all {
			files, err = testFiles(filepath.Join(root, dir))
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, m := range function.FindAllStringSubmatch(readFile(t, strings.TrimPrefix(file, root)), -1) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

func testFiles(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// readFile reads a file of the repository.
func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// guideShell is what a reader has who follows a guide: a server as make run makes it, and a receiver.
type guideShell struct {
	dir       string
	variables string // assignments, as make run prints them
	addresses *strings.Replacer
}

func newGuideShell(t *testing.T, receiver string) *guideShell {
	t.Helper()
	for _, program := range []string{"bash", "curl", "jq"} {
		installed(t, program, program)
	}
	s := &guideShell{dir: t.TempDir()}
	printed := makeRun(t, s.dir).out.String()
	for _, m := range regexp.MustCompile(`(?m)^ +((?:export )?\w+=\S+)$`).FindAllStringSubmatch(printed, -1) {
		s.variables += m[1] + "\n"
	}
	server := regexp.MustCompile(`server=http://(\S+)`).FindStringSubmatch(printed)
	if server == nil {
		t.Fatalf("make run does not say where the server is:\n%s", printed)
	}
	s.addresses = strings.NewReplacer("127.0.0.1:8080", server[1], "127.0.0.1:9000", receiver)
	return s
}

// run runs blocks in one shell, in which a request that is answered with 400 or more fails.
func (s *guideShell) run(t *testing.T, blocks []block) {
	t.Helper()
	script := "curl() { command curl --silent --show-error --fail-with-body --max-time 60 \"$@\"; }\n" + s.variables
	for _, b := range blocks {
		script += fmt.Sprintf("echo '--- %s' >&2\n%s", b.at, s.addresses.Replace(b.code))
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = s.dir
	cmd.Env = append(environment(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: the last block that is named here failed\n%s", err, out)
	}
}
