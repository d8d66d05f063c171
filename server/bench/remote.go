package main

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// answerTime is how long the receivers take for an answer.
const answerTime = 5 * time.Millisecond

// patience is how long what is left over may take at the end of a round.
const patience = 2 * time.Minute

// remote is the process of the receivers, as seen from here.
type remote struct {
	cmd *exec.Cmd
	rpc *rpc.Client
}

// startReceivers starts a process without receivers.
func startReceivers(ctx context.Context) (*remote, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, receiversArgument) //nolint:gosec // this program itself
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
		return nil, fmt.Errorf("start the receivers: %w", err)
	}
	return &remote{cmd: cmd, rpc: rpc.NewClient(pipe{out, in})}, nil
}

// stop ends the process, which ends when its input does.
func (r *remote) stop() error {
	err := r.rpc.Close()
	return errors.Join(err, r.cmd.Wait())
}

func (r *remote) open(n int) (urls []string, err error) {
	err = r.rpc.Call("Receivers.Open", n, &urls)
	return urls, err
}

// answer makes the receivers answer a client with a status, or not at all when that is 0.
func (r *remote) answer(client string, status int) error {
	return r.rpc.Call("Receivers.Behave", Behaviour{Client: client, Status: status, After: answerTime}, nil)
}

func (r *remote) take() (h Harvest, err error) {
	err = r.rpc.Call("Receivers.Take", struct{}{}, &h)
	return h, err
}

// confirmed waits until so many requests of a client were answered with a 2xx since the last harvest. That they never
// are is no error, but found by whoever looks at what arrived.
func (r *remote) confirmed(ctx context.Context, client string, want int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for n := 0; ; {
		if err := r.rpc.Call("Receivers.Count", client, &n); err != nil || n >= want {
			return err
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return nil
		}
	}
}

// sleep says whether it was left to finish.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
