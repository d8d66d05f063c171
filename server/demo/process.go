package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long anything may take that normally takes milliseconds.
const patience = 10 * time.Second

// stopPatience is longer than the program says it needs to stop at most.
const stopPatience = 20 * time.Second

// server is the program under show, running.
type server struct {
	cmd    *exec.Cmd
	end    context.CancelFunc
	exited chan struct{}
	log    *log
	url    string // known when it is ready
}

// startServer starts the program on a free port of loopback. When ctx ends it is stopped, and stop is still to be
// called.
func startServer(ctx context.Context, binary, dir string) (*server, error) {
	ctx, end := context.WithCancel(ctx)
	s := &server{end: end, exited: make(chan struct{}), log: &log{}}
	s.cmd = exec.CommandContext(ctx, binary, "serve") //nolint:gosec // what the user said is to be shown
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopPatience
	s.cmd.Env = environment(dir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// Ctrl-C is for the demo alone, which stops the server then: the second signal would kill it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // stop looks at the exit code
	}()
	return s, nil
}

// environment is that of the demo without settings for other servers.
func environment(dir string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AGENTEVENTS_") {
			env = append(env, e)
		}
	}
	return append(env,
		"AGENTEVENTS_ADDR=127.0.0.1:0",
		"AGENTEVENTS_DATABASE_URL=sqlite:"+filepath.Join(dir, "agentevents.db"),
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
	)
}

// ready waits until the server says that it is.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended before it was ready: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w", ctx.Err())
		case <-look.C:
			if s.url = s.log.url(); s.url != "" && answersOK(ctx, s.url+"/readyz") {
				return nil
			}
		}
	}
}

func answersOK(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop sends SIGTERM and waits.
func (s *server) stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("the server ended by itself: %s", s.cmd.ProcessState)
	default:
	}
	s.end()
	<-s.exited
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("the server did not stop in order: %s", s.cmd.ProcessState)
	}
	return nil
}

// log is what the server prints.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The character behind the port tells that the port is complete.
var listening = regexp.MustCompile(`(127\.0\.0\.1:[1-9][0-9]*)[^0-9]`)

// url is where the server says it listens, empty while it has not said so.
func (l *log) url() string {
	found := listening.FindStringSubmatch(l.String())
	if found == nil {
		return ""
	}
	return "http://" + found[1]
}

func (l *log) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
