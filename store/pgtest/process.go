package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// process is a program that runs, and ends with this process at the latest (on Linux).
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended; to be read when ended is closed
}

// run starts a program. Its thread waits for it and does nothing else: Linux ends a program that is to die with its
// parent already when the thread dies that started it.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) wait() error {
	<-p.ended
	return p.err
}

// end sends a signal and waits for the end. How a program ends that was told to is nobody's business.
func (p *process) end(sig os.Signal) error {
	select {
	case <-p.ended:
		return fmt.Errorf("PostgreSQL had ended by itself: %w", p.err)
	default:
	}
	if err := p.signal(sig); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("PostgreSQL did not end within %v of signal %v and was killed", stopPatience, sig)
	}
}

func (p *process) pid() int                   { return p.cmd.Process.Pid }
func (p *process) signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 4096

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailLength):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
