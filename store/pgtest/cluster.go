package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout bounds a start, recovery after a crash included, which takes a second on an idle machine.
	startTimeout = 3 * time.Minute
	// stopTimeout bounds a stop, before the server is killed.
	stopTimeout = time.Minute
	// pingInterval is the time between two pings of a server that starts.
	pingInterval = 20 * time.Millisecond
)

// ErrNone is returned if the machine has no PostgreSQL: the programs initdb and postgres are neither in Debian's
// /usr/lib/postgresql nor in PATH.
var ErrNone = errors.New(
	"no PostgreSQL on this machine: initdb and postgres are neither in /usr/lib/postgresql/*/bin nor in PATH",
)

// Options of a cluster. The zero value is valid.
type Options struct {
	// Dir is the directory of the cluster. It must be empty or absent, and the user that runs the server must have
	// access to it. If Dir is "", the cluster has a temporary directory, which Stop removes.
	Dir string
	// Settings of postgresql.conf, such as fsync=off. Without any, commits are durable.
	Settings map[string]string
	// Log gets the output of the server, if it is not nil.
	Log io.Writer
}

// Cluster is a private PostgreSQL server on a port of 127.0.0.1, which it keeps over restarts. On Linux the server ends
// with this process, however the process ends.
type Cluster struct {
	*Server
	bin       string
	dir       string
	temporary bool
	port      int
	settings  map[string]string
	log       io.Writer
	user      *credential

	mu      sync.Mutex
	process *process // nil while the server is down
}

// Start creates a cluster and returns when it answers. It trusts all connections from this machine.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	bin, err := binaries(debian)
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: o.Dir, settings: o.Settings, log: o.Log, user: unprivileged()}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("create a PostgreSQL cluster: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) create(ctx context.Context) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if err := c.initialize(ctx); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	c.port = port
	c.Server = At(fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", superuser, port))
	return c.Launch(ctx)
}

// makeDir creates the directory, which belongs to the user that runs the server.
func (c *Cluster) makeDir() (err error) {
	if c.dir == "" {
		c.temporary = true
		if c.dir, err = os.MkdirTemp("", "agentevents-postgres-"); err != nil {
			return err
		}
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil || c.user == nil {
		return err
	}
	return os.Chown(c.dir, int(c.user.uid), int(c.user.gid))
}

// initialize runs initdb.
func (c *Cluster) initialize(ctx context.Context) error {
	cmd := c.command(ctx, "initdb", "--pgdata="+c.data(), "--username="+superuser, "--auth=trust", "--encoding=UTF8",
		"--locale=C", "--no-sync", "--no-instructions")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	p, err := run(cmd)
	if err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// command returns one of PostgreSQL's programs, to be run by a user that PostgreSQL accepts.
func (c *Cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...) //nolint:gosec // the directory of binaries
	cmd.Dir = c.dir
	// Variables of the caller, such as PGDATA or PGOPTIONS, concern other servers.
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = attributes(c.user)
	return cmd
}

// Launch starts the server after Halt, and returns when it answers.
func (c *Cluster) Launch(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return errors.New("launch PostgreSQL: it must be down")
	}
	output := &tail{}
	p, err := run(c.postgres(output))
	if err != nil {
		return err
	}
	c.process = p
	if err := c.ready(ctx, p); err != nil {
		return fmt.Errorf("launch PostgreSQL: %w: %s", err, output)
	}
	return nil
}

// postgres returns the server's program. It has no socket in the file system, because paths of sockets must be short.
func (c *Cluster) postgres(output io.Writer) *exec.Cmd {
	args := []string{
		"-D", c.data(), "-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", c.port),
		"-c", "unix_socket_directories=",
	}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", name+"="+c.settings[name])
	}
	cmd := c.command(context.Background(), "postgres", args...)
	if c.log != nil {
		output = io.MultiWriter(output, c.log)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = stopTimeout
	return cmd
}

// ready waits until the server answers.
func (c *Cluster) ready(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := c.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pingInterval):
		}
	}
}

// Halt stops the server by a signal and keeps its files: SIGINT stops it cleanly, SIGQUIT is like a crash. A server
// that still runs after a minute is killed, which is an error. If the server is down, Halt does nothing.
func (c *Cluster) Halt(sig os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	err := c.process.end(sig)
	c.process = nil
	return err
}

// Restart stops the server cleanly, which ends all connections, and starts it on the same port.
func (c *Cluster) Restart(ctx context.Context) error {
	return errors.Join(c.Halt(os.Interrupt), c.Launch(ctx))
}

// Crash stops the server like a crash and starts it on the same port, where it recovers from its log.
func (c *Cluster) Crash(ctx context.Context) error {
	return errors.Join(c.Halt(syscall.SIGQUIT), c.Launch(ctx))
}

// Stop stops the server, and removes its directory if that is a temporary one.
func (c *Cluster) Stop() error {
	err := c.Halt(os.Interrupt)
	if c.temporary {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// PID returns the id of the server's first process, and 0 while the server is down.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0
	}
	return c.process.pid()
}

// Signal sends a signal to the server's first process.
func (c *Cluster) Signal(sig os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return os.ErrProcessDone
	}
	return c.process.signal(sig)
}
