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
	URL    string          // http://127.0.0.1:PORT, known when it is ready
	Log    *Log            // its standard error
	Stdout *Log            // its standard output
	Cmd    *exec.Cmd       // its process
	Exited <-chan struct{} // is closed when it has ended

	end context.CancelFunc
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
	cmd, exited := exec.CommandContext(ctx, binary, "serve"), make(chan struct{}) //nolint:gosec // the user names it
	s := &Server{Log: &Log{}, Stdout: &Log{}, Cmd: cmd, Exited: exited, end: end}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopPatience
	cmd.Env = append([]string{"AGENTEVENTS_DRAIN=0s"}, env...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(s.Stdout, stdout), io.MultiWriter(s.Log, stderr)
	// Ctrl-C is for this process alone, which stops the server then: a second signal would kill the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(exited)
		_ = cmd.Wait() // Stop looks at the exit code
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

// listening finds where a server says it listens. The path behind the port shows that the port is complete.
var listening = regexp.MustCompile(`(http://[^/\s"]+:[1-9][0-9]*)/api/`)

// Ready waits until the server says that it is.
func (s *Server) Ready(ctx context.Context) error {
	err := Until(ctx, startPatience, func() bool {
		if found := listening.FindStringSubmatch(s.Log.String()); found != nil {
			s.URL = found[1]
		}
		return s.ended() || s.URL != "" && s.answers(ctx, "/readyz")
	})
	if s.ended() {
		return fmt.Errorf("the server ended before it was ready: %s", s.Cmd.ProcessState)
	}
	if err != nil {
		return fmt.Errorf("the server is not ready: %w", err)
	}
	return nil
}

// answers says whether a path is answered with 200.
func (s *Server) answers(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := Call[any](ctx, http.DefaultClient, http.StatusOK, http.MethodGet, s.URL+path, nil)
	return err == nil
}

func (s *Server) ended() bool {
	select {
	case <-s.Exited:
		return true
	default:
		return false
	}
}

// PID is the number of the process.
func (s *Server) PID() int { return s.Cmd.Process.Pid }

// Stop sends SIGTERM and waits. Anything but an end in order is an error, and so is a secret in the log.
func (s *Server) Stop() error {
	if s.ended() {
		return fmt.Errorf("%w: %s", ErrEnded, s.Cmd.ProcessState)
	}
	s.end()
	return errors.Join(s.Wait(), s.Log.keepsSecrets())
}

// Wait waits until the server has ended. Anything but an end in order is an error.
func (s *Server) Wait() error {
	<-s.Exited
	s.end()
	if !s.Cmd.ProcessState.Success() {
		return fmt.Errorf("the server did not end in order: %s", s.Cmd.ProcessState)
	}
	return nil
}

// Kill is kill -9. ErrEnded says that the server had ended before. A secret in the log is an error.
func (s *Server) Kill() error {
	err := s.Cmd.Process.Kill()
	<-s.Exited
	s.end()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the server: %w", err)
	}
	if status, ok := s.Cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		return fmt.Errorf("%w: %s", ErrEnded, s.Cmd.ProcessState)
	}
	return s.Log.keepsSecrets()
}

// Freeze suspends the process (SIGSTOP) until thaw is called.
func (s *Server) Freeze() (thaw func() error, err error) {
	if err := s.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("freeze the server: %w", err)
	}
	return func() error { return s.Cmd.Process.Signal(syscall.SIGCONT) }, nil
}

// Explain adds to an error what the server printed last.
func (s *Server) Explain(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(s.Log.String()), "\n")
	last := strings.Join(lines[max(0, len(lines)-20):], "\n")
	return fmt.Errorf("%w\n\nthe server's last lines:\n%s", err, last)
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

// keepsSecrets is an error if there is a secret in the log.
func (l *Log) keepsSecrets() error {
	if secret := Secret(l.String()); secret != "" {
		return fmt.Errorf("the server has logged the secret %q", secret)
	}
	return nil
}
