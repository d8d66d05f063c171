package lab

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// IsTerminal says whether a file is a terminal on which a line can be rewritten.
func IsTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Progress shows how far a program is: on a terminal in one line, which it rewrites, and else now and then in a line
// that stays.
type Progress struct {
	Out      io.Writer
	Terminal bool          // of Out, see IsTerminal
	Every    time.Duration // the least time between lines that stay

	mu    sync.Mutex
	shown time.Time
}

// rewrite clears the line on a terminal.
const rewrite = "\r\x1b[K"

// Show shows a state, unless one was shown shortly before.
func (p *Progress) Show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch text := fmt.Sprintf(format, args...); {
	case p.Terminal:
		fmt.Fprint(p.Out, rewrite, text)
	case time.Since(p.shown) >= p.Every:
		p.shown = time.Now()
		fmt.Fprintln(p.Out, text)
	}
}

// Print prints text that stays.
func (p *Progress) Print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Terminal {
		fmt.Fprint(p.Out, rewrite)
	}
	fmt.Fprintf(p.Out, format, args...)
}
