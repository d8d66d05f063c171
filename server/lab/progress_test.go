package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// To a file go few lines, to a terminal one that is rewritten.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file, terminal bytes.Buffer
		p := Progress{Out: &file, Every: time.Minute}
		live := Progress{Out: &terminal, Every: time.Minute, Terminal: true}
		for range 20 {
			p.Show("cycle %d", 1)
			live.Show("cycle %d", 1)
			time.Sleep(30 * time.Second)
		}
		if got, want := file.String(), strings.Repeat("cycle 1\n", 10); got != want {
			t.Errorf("to a file: %q", got)
		}
		if s := terminal.String(); strings.Contains(s, "\n") || strings.Count(s, "\r") != 20 {
			t.Errorf("to a terminal: %q", s)
		}
		p.Print("the end\n")
		live.Print("the end\n")
		if !strings.HasSuffix(file.String(), "1\nthe end\n") ||
			!strings.HasSuffix(terminal.String(), "1\r\x1b[Kthe end\n") {
			t.Errorf("at the end: %q and %q", file.String(), terminal.String())
		}
	})
}

func TestAFileIsNoTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if IsTerminal(file) {
		t.Error("it is a terminal")
	}
}
