package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// process is a started program. On Linux it ends with this process at the latest.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // the result of the program; read it after ended is closed
}

// run starts a program. A thread of its own waits for it, because Linux ends the program when the thread that started
// it ends.
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

// end sends a signal and waits for the end, with any exit code.
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
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("PostgreSQL did not end within %v of signal %v and was killed", stopTimeout, sig)
	}
}

func (p *process) pid() int                   { return p.cmd.Process.Pid }
func (p *process) signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// tail keeps the end of the text that is written to it.
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
