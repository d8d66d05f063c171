package telemetry

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
)

// loggedRequests is a handler behind LogRequests, and its log.
type loggedRequests struct {
	testing.TB
	log    *lab.Log
	handle echo.HandlerFunc
	caller store.Caller // of the requests to come, zero if it is not known
	status int          // of their answers
	op     string       // their operationId
}

func newLoggedRequests(t testing.TB) *loggedRequests {
	t.Helper()
	lr := &loggedRequests{TB: t, log: &lab.Log{}, status: http.StatusOK}
	lr.handle = LogRequests(NewLog(lr.log, slog.LevelInfo, false))(func(c echo.Context) error {
		request.From(c.Request().Context()).Caller = lr.caller
		return c.NoContent(lr.status)
	})
	return lr
}

// send sends a number of requests, and returns the lines that these add to the log.
func (lr *loggedRequests) send(n int, method, target string) (lines []string) {
	lr.Helper()
	before := len(lr.log.String())
	e := echo.New()
	for range n {
		r := httptest.NewRequest(method, target, nil)
		r = r.WithContext(request.NewContext(r.Context(), &request.Info{Operation: lr.op}))
		if err := lr.handle(e.NewContext(r, httptest.NewRecorder())); err != nil {
			lr.Fatal(err)
		}
	}
	return strings.Split(strings.TrimSpace(lr.log.String()[before:]), "\n")
}

// The lines of requests without a token are limited, and the log says how many were left out.
func TestRequestLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lr := newLoggedRequests(t)
		for name, c := range map[string]struct {
			kind, op string
			caller   store.Caller
			status   int
		}{
			"no route":     {`"without a token"`, "", store.Caller{}, http.StatusNotFound},
			"a probe":      {`"without a token"`, "", store.Caller{}, http.StatusOK},
			"no token":     {`"without a token"`, "getClient", store.Caller{}, http.StatusUnauthorized},
			"forbidden":    {"refused", "getClient", store.Caller{Application: "a"}, http.StatusForbidden},
			"over a limit": {"refused", "getClient", store.Caller{Application: "a"}, http.StatusTooManyRequests},
			"busy":         {"refused", "getClient", store.Caller{Application: "a"}, http.StatusServiceUnavailable},
		} {
			time.Sleep(time.Minute)
			lr.op, lr.caller, lr.status = c.op, c.caller, c.status
			if n := len(lr.send(1000, "GET", "/x")); n != 100 {
				t.Errorf("%s: %d lines of 1000 requests", name, n)
			}
			before := len(lr.log.String())
			time.Sleep(time.Second)
			synctest.Wait()
			added := lr.log.String()[before:]
			if !strings.Contains(added, `msg="lines omitted" kind=`+c.kind+" count=900\n") {
				t.Errorf("%s: the next line is %q", name, added)
			}
			if n := len(lr.send(1000, "GET", "/x")); n != 20 {
				t.Errorf("%s: a second later, %d lines", name, n)
			}
		}
	})
}

// What an authorized client does is logged, whatever strangers do.
func TestLinesOfKnownCallersAreKept(t *testing.T) {
	lr := newLoggedRequests(t)
	lr.status = http.StatusNotFound
	lr.send(1000, "GET", "/x")
	lr.op, lr.caller = "getClient", store.Caller{Application: "a"}
	if n := len(lr.send(1000, "GET", "/x")); n != 1000 {
		t.Errorf("%d lines of 1000", n)
	}
	lr.op, lr.caller, lr.status = "requestToken", store.Caller{}, http.StatusOK
	if n := len(lr.send(1000, "POST", "/oauth/token")); n != 1000 {
		t.Errorf("%d lines of 1000 tokens", n)
	}
}

func TestLongPathsAreCut(t *testing.T) {
	lr := newLoggedRequests(t)
	line := lr.send(1, strings.Repeat("X", 16<<10), "/"+strings.Repeat("%ff", 2700))[0]
	if len(line) > 600 || !strings.Contains(line, " path=/"+strings.Repeat("%ff", 85)+"... ") ||
		!strings.Contains(line, " method="+strings.Repeat("X", 32)+"... ") {
		t.Errorf("%d bytes: %s", len(line), line)
	}
	if line = lr.send(1, "GET", "/a%0Ab")[0]; !strings.Contains(line, " path=/a%0Ab ") {
		t.Error(line)
	}
}

func TestNothingIsOmittedFromADisabledLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lab.Log
		limiter := NewLineLimiter(NewLog(&log, slog.LevelWarn, false), "x")
		for range 1000 {
			if limiter.Allow() {
				t.Fatal("a line is allowed")
			}
		}
		time.Sleep(time.Minute)
		if log.String() != "" {
			t.Error(log.String())
		}
	})
}
