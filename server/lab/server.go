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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long anything may take that normally takes milliseconds, however slow the machine is. It is longer
// than the program says it needs to stop at most.
const patience = time.Minute

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
// loopback allowed. Other settings of this process are not its. When ctx ends it is stopped; Stop or Kill is still to
// be called.
func Start(ctx context.Context, binary, databaseURL string, env ...string) (*Server, error) {
	env = append([]string{
		"AGENTEVENTS_ADDR=127.0.0.1:0",
		"AGENTEVENTS_DATABASE_URL=" + databaseURL,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_OPERATOR_ID=" + OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET=" + OperatorSecret,
		"GORACE=atexit_sleep_ms=0", // else the race detector makes every exit a second longer
	}, env...)
	setting := func(e string) bool { return strings.HasPrefix(e, "AGENTEVENTS_") }
	return Serve(ctx, binary, io.Discard, io.Discard, append(slices.DeleteFunc(os.Environ(), setting), env...))
}

// Serve starts a binary with an environment, and shows what it prints. When ctx ends it is stopped; Wait is still to be
// called.
func Serve(ctx context.Context, binary string, stdout, stderr io.Writer, env []string) (*Server, error) {
	ctx, end := context.WithCancel(ctx)
	cmd, exited := exec.CommandContext(ctx, binary, "serve"), make(chan struct{}) //nolint:gosec // the user names it
	s := &Server{Log: &Log{}, Stdout: &Log{}, Cmd: cmd, Exited: exited, end: end}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay, cmd.Env = patience, append([]string{"AGENTEVENTS_DRAIN=0s"}, env...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(s.Stdout, stdout), io.MultiWriter(s.Log, stderr)
	// Ctrl-C is for this process alone, which stops the server then: a second signal would kill the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(exited)
		_ = cmd.Wait() // Wait looks at the exit code
	}()
	return s, nil
}

// listening finds where a server says it listens. The path behind the port shows that the port is complete.
var listening = regexp.MustCompile(`(http://[^/\s"]+:[1-9][0-9]*)/api/`)

// Ready waits until the server says that it is.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := Until(ctx, patience, func() bool {
		if found := listening.FindStringSubmatch(s.Log.String()); found != nil {
			s.URL = found[1]
		}
		_, err := Call[any](ctx, http.DefaultClient, http.StatusOK, http.MethodGet, s.URL+"/readyz", nil)
		return err == nil || s.ended()
	})
	if s.ended() {
		return fmt.Errorf("the server ended before it was ready: %s", s.Cmd.ProcessState)
	}
	if err != nil {
		return fmt.Errorf("the server is not ready: %w", err)
	}
	return nil
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
	_ = s.Cmd.Process.Kill() // fails if the server has ended
	<-s.Exited
	s.end()
	if s.Cmd.ProcessState.ExitCode() >= 0 { // there is none after a signal
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
	return fmt.Errorf("%w\n\nthe server's last lines:\n%s", err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
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

// likeSecret is what tokens, signatures, signing secrets and the headers around them look like, and the lab's own
// secret. Ids of requests and of applications look otherwise.
var likeSecret = regexp.MustCompile(`\b[A-Z2-7]{30}\b|whsec_\S+|\bv1,\S+|(?i:bearer|basic) [A-Za-z0-9+/=]{8,}|` +
	`\b[a-z_]*secret=\S+|` + regexp.QuoteMeta(OperatorSecret))

var told sync.Map // secrets that have no look of their own

// Tell makes Secret look for a secret that has no look of its own.
func Tell(secret string) { told.Store(secret, nil) }

// Secret returns a secret in a server's log, or nothing.
func Secret(log string) (found string) {
	found = likeSecret.FindString(log)
	told.Range(func(secret, _ any) bool {
		if strings.Contains(log, secret.(string)) {
			found = secret.(string)
		}
		return found == ""
	})
	return found
}
