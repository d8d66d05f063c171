package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startPatience is how long a start may take that normally takes milliseconds, however slow the machine is.
	startPatience = 2 * time.Minute
	// stopPatience is longer than the program says it needs to stop at most.
	stopPatience = 20 * time.Second
)

// ErrEnded says that a server has ended by itself.
var ErrEnded = errors.New("the server ended by itself")

// Server is the program, running.
type Server struct {
	URL    string // http://127.0.0.1:PORT, known when it is ready
	Log    *Log   // its standard error
	Stdout *Log

	cmd    *exec.Cmd
	end    context.CancelFunc
	exited chan struct{}
}

// Start starts a binary on a free port of loopback with a database and further variables (NAME=VALUE), receivers on
// loopback allowed. When ctx ends it is stopped; Stop or Kill is still to be called.
func Start(ctx context.Context, binary, databaseURL string, env ...string) (*Server, error) {
	return start(ctx, binary, environment(databaseURL, env), io.Discard, io.Discard)
}

// Serve starts a binary with the environment of this process and further variables, and shows what it prints. When ctx
// ends it is stopped; Wait is still to be called.
func Serve(ctx context.Context, binary string, stdout, stderr io.Writer, env ...string) (*Server, error) {
	return start(ctx, binary, append(os.Environ(), env...), stdout, stderr)
}

func start(ctx context.Context, binary string, env []string, stdout, stderr io.Writer) (*Server, error) {
	ctx, end := context.WithCancel(ctx)
	s := &Server{Log: &Log{}, Stdout: &Log{}, end: end, exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, binary, "serve") //nolint:gosec // the user names the program to try
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopPatience
	s.cmd.Env = append([]string{"AGENTEVENTS_DRAIN=0s"}, env...)
	s.cmd.Stdout, s.cmd.Stderr = io.MultiWriter(s.Stdout, stdout), io.MultiWriter(s.Log, stderr)
	// Ctrl-C is for this process alone, which stops the server then: a second signal would kill the server.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // Stop looks at the exit code
	}()
	return s, nil
}

// environment is that of this process without settings for other servers.
func environment(databaseURL string, further []string) []string {
	env := []string{}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AGENTEVENTS_") {
			env = append(env, e)
		}
	}
	return append(append(env,
		"AGENTEVENTS_ADDR=127.0.0.1:0",
		"AGENTEVENTS_DATABASE_URL="+databaseURL,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_OPERATOR_ID="+OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET="+OperatorSecret,
		"GORACE=atexit_sleep_ms=0", // else the race detector makes every exit a second longer
	), further...)
}

// Ready waits until the server says that it is.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended before it was ready: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w", ctx.Err())
		case <-look.C:
			if s.URL = s.Log.url(); s.URL != "" && answersOK(ctx, s.URL+"/readyz") {
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

// PID is the number of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Exited is closed when the server has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// ExitCode is that of a server that has ended; -1 if a signal ended it.
func (s *Server) ExitCode() int { return s.cmd.ProcessState.ExitCode() }

// Signal sends a signal to the server.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Stop sends SIGTERM and waits. Anything but an end in order is an error, and so is a secret in the log.
func (s *Server) Stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("%w: %s", ErrEnded, s.cmd.ProcessState)
	default:
	}
	s.end()
	return errors.Join(s.Wait(), s.Log.keepsSecrets())
}

// Wait waits until the server has ended. Anything but an end in order is an error.
func (s *Server) Wait() error {
	<-s.exited
	s.end()
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("the server did not end in order: %s", s.cmd.ProcessState)
	}
	return nil
}

// Kill is kill -9. ErrEnded says that the server had ended before. A secret in the log is an error.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	<-s.exited
	s.end()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the server: %w", err)
	}
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		return fmt.Errorf("%w: %s", ErrEnded, s.cmd.ProcessState)
	}
	return s.Log.keepsSecrets()
}

// Freeze suspends the process (SIGSTOP) until thaw is called.
func (s *Server) Freeze() (thaw func() error, err error) {
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("freeze the server: %w", err)
	}
	return func() error { return s.cmd.Process.Signal(syscall.SIGCONT) }, nil
}

// Explain adds to an error what the server printed last.
func (s *Server) Explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n\nthe server's last lines:\n%s", err, s.Log.tail(20))
}

// Log is what a server prints.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The path behind the port shows that the port is complete.
var listening = regexp.MustCompile(`(http://[^/\s"]+:[1-9][0-9]*)/api/`)

// url is where the server says it listens, empty while it has not said so.
func (l *Log) url() string {
	found := listening.FindStringSubmatch(l.String())
	if found == nil {
		return ""
	}
	return found[1]
}

// tail is the last lines.
func (l *Log) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// keepsSecrets is an error if there is a secret in the log.
func (l *Log) keepsSecrets() error {
	if secret := Secret(l.String()); secret != "" {
		return fmt.Errorf("the server has logged the secret %q", secret)
	}
	return nil
}
