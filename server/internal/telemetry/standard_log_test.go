package telemetry

import (
	"bufio"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/lab"
)

// A receiver that sends more than its answer causes a line of net/http. It has nothing of what the receiver sent.
func TestStandardLogQuotesNoReceiver(t *testing.T) {
	out := redirected(t)
	url, closed := receiverWithExcess(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"+"secret level=ERROR\n")
	resp, err := (&http.Client{Transport: &http.Transport{}}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	<-closed // the transport closes the connection after it has written its line
	got := out.String()
	if !strings.Contains(got, "level=INFO msg=\"library message\" text=\"Unsolicited response") ||
		strings.Contains(got, "secret") {
		t.Errorf("the log has %q", got)
	}
}

// The lines are limited, and each is short.
func TestStandardLogIsBounded(t *testing.T) {
	out := redirected(t)
	for range 10 * lineBurst {
		log.Print(strings.Repeat("x", 10*maxPath))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if n := len(lines); n < lineBurst || n > 2*lineBurst {
		t.Errorf("%d lines", n)
	}
	if len(lines[0]) > 2*maxPath {
		t.Errorf("the first line has %d bytes", len(lines[0]))
	}
}

// redirected returns a log that gets the standard logger's lines until the test ends.
func redirected(t *testing.T) *lab.Log {
	t.Helper()
	writer, flags := log.Writer(), log.Flags()
	t.Cleanup(func() {
		log.SetOutput(writer)
		log.SetFlags(flags)
	})
	out := &lab.Log{}
	RedirectStandardLog(NewLog(out, slog.LevelInfo, false))
	return out
}

// receiverWithExcess gives one connection an answer. The channel is closed when the connection is.
func receiverWithExcess(t *testing.T, answer string) (url string, closed <-chan struct{}) {
	t.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { on.Close() })
	end := make(chan struct{})
	go func() {
		defer close(end)
		c, err := on.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		if _, err = http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(c, answer)
			_, _ = io.Copy(io.Discard, in)
		}
	}()
	return "http://" + on.Addr().String(), end
}
