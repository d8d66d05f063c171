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

// patience is the time limit of a step that normally takes milliseconds, for slow machines. It is longer than the
// maximum time of a stop.
const patience = time.Minute

// ErrEnded reports that a server had ended by itself.
var ErrEnded = errors.New("the server ended by itself")

// Server is a process of the program.
type Server struct {
	URL    string          // http://127.0.0.1:PORT, set by Ready
	Log    *Log            // its standard error
	Stdout *Log            // its standard output
	Cmd    *exec.Cmd       // its process
	Exited <-chan struct{} // closed at the end of the process

	end context.CancelFunc
}

// Start starts a binary on a free port of loopback with a database and further variables (NAME=VALUE). Receivers on
// loopback are allowed. It does not pass on settings of this process. When ctx ends, the server is stopped; Stop or
// Kill must still be called.
func Start(ctx context.Context, binary, databaseURL string, env ...string) (*Server, error) {
	env = append([]string{
		"AGENTEVENTS_ADDR=127.0.0.1:0",
		"AGENTEVENTS_DATABASE_URL=" + databaseURL,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_OPERATOR_ID=" + OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET=" + OperatorSecret,
		"GORACE=atexit_sleep_ms=0", // otherwise the race detector delays every exit by a second
	}, env...)
	setting := func(e string) bool { return strings.HasPrefix(e, "AGENTEVENTS_") }
	return Serve(ctx, binary, io.Discard, io.Discard, append(slices.DeleteFunc(os.Environ(), setting), env...))
}

// Serve starts a binary with an environment, and copies its output. When ctx ends, the server is stopped; Wait must
// still be called.
func Serve(ctx context.Context, binary string, stdout, stderr io.Writer, env []string) (*Server, error) {
	ctx, end := context.WithCancel(ctx)
	cmd, exited := exec.CommandContext(ctx, binary, "serve"), make(chan struct{}) //nolint:gosec // the user names it
	s := &Server{Log: &Log{}, Stdout: &Log{}, Cmd: cmd, Exited: exited, end: end}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay, cmd.Env = patience, append([]string{"AGENTEVENTS_DRAIN=0s"}, env...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(s.Stdout, stdout), io.MultiWriter(s.Log, stderr)
	// In its own process group, the server gets no Ctrl-C: this process stops it, and a second signal would kill it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		defer close(exited)
		_ = cmd.Wait() // Wait checks the exit code
	}()
	return s, nil
}

// listening matches a server's URL in its log. The path after the port shows that the port is complete.
var listening = regexp.MustCompile(`(http://[^/\s"]+:[1-9][0-9]*)/api/`)

// Ready waits until the server is ready, by /readyz.
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

// PID returns the process id.
func (s *Server) PID() int { return s.Cmd.Process.Pid }

// Stop sends SIGTERM and waits for the end. An exit code other than 0 is an error, and so is a secret in the log.
func (s *Server) Stop() error {
	if s.ended() {
		return fmt.Errorf("%w: %s", ErrEnded, s.Cmd.ProcessState)
	}
	s.end()
	return errors.Join(s.Wait(), s.Log.keepsSecrets())
}

// Wait waits for the end of the server. An exit code other than 0 is an error.
func (s *Server) Wait() error {
	<-s.Exited
	s.end()
	if !s.Cmd.ProcessState.Success() {
		return fmt.Errorf("the server did not end in order: %s", s.Cmd.ProcessState)
	}
	return nil
}

// Kill kills the server (kill -9). It returns ErrEnded if the server had ended before. A secret in the log is an error.
func (s *Server) Kill() error {
	_ = s.Cmd.Process.Kill() // fails if the server has ended
	<-s.Exited
	s.end()
	if s.Cmd.ProcessState.ExitCode() >= 0 { // there is none after a signal
		return fmt.Errorf("%w: %s", ErrEnded, s.Cmd.ProcessState)
	}
	return s.Log.keepsSecrets()
}

// Suspend suspends the process (SIGSTOP) until resume is called.
func (s *Server) Suspend() (resume func() error, err error) {
	if err := s.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("suspend the server: %w", err)
	}
	return func() error { return s.Cmd.Process.Signal(syscall.SIGCONT) }, nil
}

// Explain adds the last lines of the server's log to an error.
func (s *Server) Explain(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(s.Log.String()), "\n")
	return fmt.Errorf("%w\n\nthe server's last lines:\n%s", err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
}

// Log is the output of a server.
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

// Len returns the number of bytes.
func (l *Log) Len() int { return len(l.String()) }

// keepsSecrets returns an error if the log has a secret.
func (l *Log) keepsSecrets() error {
	if secret := Secret(l.String()); secret != "" {
		return fmt.Errorf("the server has logged the secret %q", secret)
	}
	return nil
}

// likeSecret matches tokens, signatures, signing secrets, headers with them, and the lab's own secret. It matches no id
// of a request or of an application.
var likeSecret = regexp.MustCompile(`\b[A-Z2-7]{30}\b|whsec_\S+|\bv1,\S+|(?i:bearer|basic) [A-Za-z0-9+/=]{8,}|` +
	`\b[a-z_]*secret=\S+|` + regexp.QuoteMeta(OperatorSecret))

var knownSecrets sync.Map // secrets that likeSecret does not match

// AddSecret makes Secret find a secret that has no form of its own.
func AddSecret(secret string) { knownSecrets.Store(secret, nil) }

// Secret returns a secret in a server's log, or "".
func Secret(log string) (found string) {
	found = likeSecret.FindString(log)
	knownSecrets.Range(func(secret, _ any) bool {
		if strings.Contains(log, secret.(string)) {
			found = secret.(string)
		}
		return found == ""
	})
	return found
}
