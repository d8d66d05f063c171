package webhook

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The health of the receiver for every status, with a Retry-After and without.
func TestHealth(t *testing.T) {
	for status := 100; status <= 599; status++ {
		for _, retryAfter := range []time.Duration{0, time.Second} {
			want := Alive
			switch {
			case status == 408, status == 425, status == 429, status == 503 && retryAfter > 0:
				want = Unclear
			case status >= 500:
				want = Down
			}
			a := Attempt{Status: status, Verdict: Judge(status, nil), RetryAfter: retryAfter}
			if got := a.Health(); got != want {
				t.Errorf("%d with Retry-After %v: %d, want %d", status, retryAfter, got, want)
			}
		}
	}
}

func TestHealthWithoutAnswer(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want Health
	}{
		{"timeout", timeoutError(time.Second), Down},
		{"connection", errors.New("connection refused"), Down},
		{"forbidden address", &RefusedError{Reason: "private"}, Unclear},
		{"lease over, nothing sent", errLeaseOver, Unclear},
	} {
		a := Attempt{Error: test.err.Error(), Verdict: Judge(0, test.err), LeaseOver: errors.Is(test.err, errLeaseOver)}
		if got := a.Health(); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestRecoveryDelay(t *testing.T) {
	for failed, want := range []time.Duration{5, 10, 30, 60, 60, 60} {
		if got := RecoveryDelay(failed); got != want*time.Second {
			t.Errorf("after %d probes: %v, want %v s", failed, got, int(want))
		}
	}
}

// A receiver with an incomplete answer is down, whatever the status was, unless the status asks for time.
func TestHealthOfAnAnswerThatIsCutOff(t *testing.T) {
	for name, cut := range map[string]string{
		"body":                 "HTTP/1.1 %d OK\r\nContent-Length: 10\r\n\r\nthan",
		"chunk":                "HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nthan",
		"between chunks":       "HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nthan\r\n",
		"head":                 "HTTP/1.1 %d OK\r\nContent-Len",
		"slower than the time": "HTTP/1.1 %d OK\r\nContent-Length: 10\r\n\r\nthan<hang>",
	} {
		for status, want := range map[int]Health{200: Down, 404: Down, 500: Down, 429: Unclear} {
			if name == "head" {
				want = Down // it has not answered yet
			}
			answer, hangs := strings.CutSuffix(fmt.Sprintf(cut, status), "<hang>")
			timeout := ample
			if hangs {
				timeout = short
			}
			s := loopbackSender(t, timeout)
			a := s.Send(t.Context(), to(cutOff(t, answer, hangs), gen.RequestMethodGET))
			if got := a.Health(); got != want || a.Verdict != Retry {
				t.Errorf("%s of a %d cut off: %s, health %d, want %s, health %d: %q", name, status, a.Verdict, got,
					Retry, want, a.Error)
			}
		}
	}
}

// cutOff answers one request with a beginning, and then closes the connection or hangs.
func cutOff(t *testing.T, answer string, hangs bool) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
		if hangs {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	return "http://" + listener.Addr().String()
}
