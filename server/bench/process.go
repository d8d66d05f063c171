package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// The roles of this program when it is started once more, with the role as its only argument.
const (
	receiversRole = "receivers"
	generatorRole = "generator"
	relayRole     = "relay"
	bareRole      = "bare"
)

// service is what does the work of a role: its exported methods are called from the other process.
func service(role string) any {
	switch role {
	case receiversRole:
		return newReceivers()
	case generatorRole:
		return &Generator{}
	case relayRole:
		return &Relay{}
	case bareRole:
		return &Bare{}
	}
	return nil
}

// play does what this program is told on in until that ends, if its arguments are a role, and says whether they are.
func play(args []string, in io.ReadCloser, out io.WriteCloser) bool {
	if len(args) != 1 || service(args[0]) == nil {
		return false
	}
	s := rpc.NewServer()
	_ = s.Register(service(args[0])) // fails for a type without methods only
	s.ServeConn(pipe{in, out})
	return true
}

// pipe is two ends of pipes as one connection.
type pipe struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipe) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// process is this program in a role, as seen from here.
type process struct {
	cmd *exec.Cmd
	rpc *rpc.Client
}

func startProcess(ctx context.Context, role string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, role) //nolint:gosec // this program itself
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which ends that one
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	return &process{cmd: cmd, rpc: rpc.NewClient(pipe{out, in})}, nil
}

// stop ends the process, which ends when its input does.
func (p *process) stop() error {
	err := p.rpc.Close()
	return errors.Join(err, p.cmd.Wait())
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// listen serves on a free port of loopback until the process ends, and returns the address.
func listen(handler http.Handler) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), nil
}
