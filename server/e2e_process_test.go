package main_test

import (
	"bytes"
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// patience is how long a test waits for what must happen. Only a fault takes that long, however slow the machine is.
const patience = 2 * time.Minute

// programs are the real binaries, built once.
type programs struct{ server, demo, version string }

// build builds the binaries, with the race detector when the test has it.
func build(t *testing.T) programs {
	t.Helper()
	p := programs{version: "v1.2.3-e2e"}
	dir := t.TempDir()
	for _, target := range []struct {
		to      *string
		name    string
		pkg     string
		ldflags string
	}{
		{&p.server, "agentevents", ".", "-X main.version=" + p.version},
		{&p.demo, "demo", "./demo", ""},
	} {
		*target.to = filepath.Join(dir, target.name)
		args := []string{"build", "-buildvcs=false", "-ldflags", target.ldflags, "-o", *target.to}
		if underRace() {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, target.pkg)...).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", target.pkg, err, out)
		}
	}
	return p
}

// underRace says whether the test was built with the race detector.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// newStore is the URL of a database that nobody has used yet.
func newStore(t *testing.T) string {
	t.Helper()
	if pgtest.OnPostgres() {
		return pgtest.Database(t)
	}
	return "sqlite:" + newFile(t)
}

// newFile is the path of a database that is not there yet.
func newFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "agentevents.db")
}

// open opens a store past the server.
func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, name := "sqlite3", strings.TrimPrefix(url, "sqlite:")+"?_busy_timeout=5000"
	if pgtest.OnPostgres() {
		driver, name = "pgx", url
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// process is the binary, running.
type process struct {
	cmd    *exec.Cmd
	out    *output // its log, on standard error
	stdout *output
	exited chan struct{}
	until  time.Time // when it exited
	url    string

	troubled bool // it may have logged errors
}

// serve starts the server on a free port of loopback, with receivers on loopback allowed, and waits until it is ready.
func (bin programs) serve(t *testing.T, store string, env ...string) *process {
	t.Helper()
	p := bin.start(t, store, env...)
	eventually(t, "the server says where it listens", func() bool {
		p.url = p.out.url()
		return p.url != "" || p.ended()
	})
	eventually(t, "the server is ready", func() bool { return p.ended() || p.ready() })
	if p.ended() {
		t.Fatalf("the server ended: %s\n%s", p.cmd.ProcessState, p.out)
	}
	return p
}

func (bin programs) start(t *testing.T, store string, env ...string) *process {
	t.Helper()
	p := &process{out: &output{}, stdout: &output{}, exited: make(chan struct{})}
	p.cmd = exec.Command(bin.server, "serve")
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append(cleanEnv(), append([]string{
		"GORACE=atexit_sleep_ms=0", // else the race detector makes every exit a second longer
		"AGENTEVENTS_ADDR=127.0.0.1:0",
		"AGENTEVENTS_DRAIN=0s",
		"AGENTEVENTS_DATABASE_URL=" + store,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_OPERATOR_ID=" + lab.OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET=" + lab.OperatorSecret,
	}, env...)...)
	p.run(t)
	return p
}

// run starts the process, which ends with the test at the latest.
func (p *process) run(t *testing.T) {
	t.Helper()
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the tests look at the exit code
		p.until = time.Now()
	}()
	t.Cleanup(func() { p.clean(t) })
}

// clean ends the process if it still runs. What it logged must not be an error.
func (p *process) clean(t *testing.T) {
	_ = p.cmd.Process.Kill()
	<-p.exited
	if secret := lab.Secret(p.out.String()); secret != "" {
		t.Errorf("the server printed the secret %q", secret)
	}
	for line := range strings.SplitSeq(p.out.String(), "\n") {
		if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") || !p.troubled && strings.Contains(line, "level=ERROR") {
			t.Errorf("the server printed: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("the server printed:\n%s", p.out)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) ready() bool {
	resp, err := http.Get(p.url + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	eventually(t, "the server ends", p.ended)
	return p.cmd.ProcessState.ExitCode()
}

// stop stops the server in order and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	return p.wait(t)
}

// output is what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// The character behind the port tells that the port is complete.
var listening = regexp.MustCompile(`(127\.0\.0\.1:[1-9][0-9]*)[^0-9]`)

func (o *output) url() string {
	found := listening.FindStringSubmatch(o.String())
	if found == nil {
		return ""
	}
	return "http://" + found[1]
}

// cleanEnv is the environment without settings for another server.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "AGENTEVENTS_") })
}

// eventually ends the test unless something is so in time.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	if !soon(so) {
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// soon looks again and again whether something is so.
func soon(so func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	end := time.NewTimer(patience)
	defer end.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-end.C:
			return false
		}
	}
	return true
}
