package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// process is a running server.
type process struct {
	*lab.Server
	until        time.Time // time of its end; valid once ended is true
	stopped      chan struct{}
	mayLogErrors bool // its log may have errors
}

// serve starts a server on a free loopback port, with receivers on loopback allowed, and waits until it is ready.
func serve(t *testing.T, databaseURL string, env ...string) *process {
	t.Helper()
	p := start(t, databaseURL, env...)
	if err := p.Ready(context.Background()); err != nil {
		t.Fatal(p.Explain(err))
	}
	return p
}

// start starts a server, which ends at the latest with the test.
func start(t *testing.T, databaseURL string, env ...string) *process {
	t.Helper()
	server, err := lab.Start(context.Background(), binary(serverBinary), databaseURL, env...)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Server: server, stopped: make(chan struct{})}
	go func() {
		<-server.Exited
		p.until = time.Now()
		close(p.stopped)
	}()
	t.Cleanup(func() { p.clean(t) })
	return p
}

// clean ends the server if it runs. Its log must have neither an error nor a secret.
func (p *process) clean(t *testing.T) {
	_ = p.Kill() // the tests check the exit code
	if secret := lab.Secret(p.Log.String()); secret != "" {
		t.Errorf("the server printed the secret %q", secret)
	}
	for line := range strings.SplitSeq(p.Log.String(), "\n") {
		fatal := strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic")
		if fatal || !p.mayLogErrors && strings.Contains(line, "level=ERROR") {
			t.Errorf("the server printed: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("the server printed:\n%s", p.Log)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.stopped:
		return true
	default:
		return false
	}
}

func (p *process) ready() bool {
	resp, err := http.Get(p.URL + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits until the server has ended, and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	eventually(t, "the server ends", p.ended)
	return p.Cmd.ProcessState.ExitCode()
}

// stop stops the server gracefully and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	return p.wait(t)
}

// command runs the binary in an empty directory until it exits, and checks that the directory stays empty.
func command(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary(serverBinary), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.TempDir(), append(environment(), env...), &out, &errs
	_ = cmd.Run() // the exit code has the result
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Errorf("files left by %v: %v (%v)", args, left, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// databaseAt returns the variable with the database of a command.
func databaseAt(url string) []string { return []string{"AGENTEVENTS_DATABASE_URL=" + url} }

// verify checks that a database is consistent.
func verify(t *testing.T, databaseURL string) {
	t.Helper()
	stdout, stderr, code := command(t, databaseAt(databaseURL), "verify")
	if code != 0 {
		t.Errorf("verify %s: exit code %d\n%s%s", databaseURL, code, stdout, stderr)
	}
}

// other is another program in the background.
type other struct {
	cmd    *exec.Cmd
	out    *lab.Log // standard output and standard error
	exited chan struct{}
}

// background runs another program, and kills it at the end of the test.
func background(t *testing.T, cmd *exec.Cmd) *other {
	t.Helper()
	o := &other{cmd: cmd, out: &lab.Log{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = o.out, o.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(o.exited)
		_ = cmd.Wait() // it is killed, or the test checks its exit code
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-o.exited
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd.Path, o.out)
		}
	})
	return o
}

func (o *other) ended() bool {
	select {
	case <-o.exited:
		return true
	default:
		return false
	}
}

// installed returns the path of a program. Without the program, the test is skipped; in CI it fails.
func installed(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("CI requires %s (Debian: %s)", program, debian)
	case err != nil:
		t.Skipf("this test requires %s (Debian: %s)", program, debian)
	}
	return path
}

// listens reports whether a server accepts connections.
func listens(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// freePort returns a free address, for programs that cannot report the port that they chose. The system assigns ports
// from 32768 on, so a lower port stays free until its program opens it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.IntN(10000)))
		if err == nil {
			_ = l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}
