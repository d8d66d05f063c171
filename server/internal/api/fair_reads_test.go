package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// reads are requests of callers to a handler that reads until end is closed.
type reads struct {
	handlers
	reading chan string // gets the client of each request that reads
	end     chan struct{}
}

// begin begins a request. Its error comes to the channel that it returns.
func (r *reads) begin(ctx context.Context, caller store.Caller, method, operation string) <-chan error {
	handler := r.readInTurn(func(c echo.Context, _ any) (any, error) {
		r.reading <- request.Caller(c.Request().Context()).Client
		<-r.end
		return nil, nil
	}, operation)
	c := echo.New().NewContext(httptest.NewRequestWithContext(
		request.NewContext(ctx, &request.Info{Caller: caller}), method, "/", http.NoBody), httptest.NewRecorder())
	result := make(chan error, 1)
	go func() {
		_, err := handler(c, nil)
		result <- err
	}()
	synctest.Wait()
	return result
}

// A client has at most half of the readers. Its further requests wait, and those of others do not.
func TestReadersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads{
			handlers: handlers{readers: newReaderRoom(8)}, reading: make(chan string, 20), end: make(chan struct{}),
		}
		gone, leave := context.WithCancel(t.Context())
		results := []<-chan error{}
		begin := func(caller store.Caller, method, operation string) {
			results = append(results, r.begin(t.Context(), caller, method, operation))
		}
		for range 5 {
			begin(ofClient("a"), http.MethodGet, "ListDeliveries")
		}
		left := r.begin(gone, ofClient("a"), http.MethodGet, "ListDeliveries")
		begin(ofClient("a"), http.MethodPut, "PutStatuses")
		begin(ofClient("a"), http.MethodGet, "ListStatusChanges")
		for range 3 {
			begin(ofClient("b"), http.MethodGet, "GetAgent")
		}
		begin(ofOperator, http.MethodGet, "GetAgent")
		var order string
		for len(r.reading) > 0 {
			order += <-r.reading
		}
		if order != "aaaaaabbb" { // the fifth request waits, one that writes and a poll do not; the operator waits
			t.Errorf("%q read", order)
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(r.end)
		for _, result := range results {
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		if n := len(r.reading); n != 2 || len(r.readers.byClient) != 0 {
			t.Errorf("%d requests read at last, and %d clients are kept", n, len(r.readers.byClient))
		}
	})
}

// After a big page, a client waits before it reads another one, for twice as long as the first one took. Small pages,
// and the pages of others, do not wait.
func TestBigPagesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handlers{readers: newReaderRoom(8), bigPages: newBigPageRoom()}
		begun := time.Now()
		read := func(caller store.Caller, entries int, takes time.Duration) time.Duration {
			ctx := request.NewContext(t.Context(), &request.Info{Caller: caller})
			err := h.inTurn(ctx, entries, func() error { time.Sleep(takes); return nil })
			if err != nil {
				t.Error(err)
			}
			return time.Since(begun)
		}
		for _, step := range []struct {
			caller  store.Caller
			entries int
			want    time.Duration // since the first page began
		}{
			{ofClient("a"), 101, 10 * time.Millisecond},
			{ofClient("a"), 100, 20 * time.Millisecond}, // small
			{ofClient("b"), 1000, 30 * time.Millisecond},
			{ofOperator, 1000, 40 * time.Millisecond},
			{ofOperator, 1000, 50 * time.Millisecond},
			{ofClient("a"), 101, 60 * time.Millisecond}, // its rest has ended
			{ofClient("a"), 101, 90 * time.Millisecond},
		} {
			if ended := read(step.caller, step.entries, 10*time.Millisecond); ended != step.want {
				t.Errorf("%d entries of client %q: %v, want %v", step.entries, step.caller.Client, ended, step.want)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(h.bigPages.byClient); n != 0 {
			t.Errorf("%d clients are kept", n)
		}
	})
}

// The pause after a big page does not depend on how long others kept the readers busy.
func TestPauseAfterBigPageExcludesWaitForReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handlers{readers: newReaderRoom(2), bigPages: newBigPageRoom()}
		taken, err := h.readers.take(t.Context(), "", 1)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, taken.leave)
		ctx := request.NewContext(t.Context(), &request.Info{Caller: ofClient("a")})
		begun := time.Now()
		for _, want := range []time.Duration{1010 * time.Millisecond, 1040 * time.Millisecond} {
			err := h.inTurn(ctx, 101, func() error { time.Sleep(10 * time.Millisecond); return nil })
			if ended := time.Since(begun); err != nil || ended != want {
				t.Errorf("a page ended after %v, want %v: %v", ended, want, err)
			}
		}
		time.Sleep(time.Second)
	})
}

// A poll that begins with the newest change waits for a reader before it looks for that change.
func TestStartOfFeedWaitsForReader(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	h := handlers{store: ls.store, readers: newReaderRoom(ls.store.Readers())}
	taken, err := h.readers.take(t.Context(), "12", h.readers.share)
	if err != nil {
		t.Fatal(err)
	}
	ctx := request.NewContext(t.Context(), &request.Info{Caller: ofClient("12")})
	newest := gen.FeedStartNewest
	found := make(chan struct{})
	go func() {
		defer close(found)
		_, err = h.feedStart(ctx, api.ListStatusChangesRequestObject{
			ClientID: "12", Params: gen.ListStatusChangesParams{Start: &newest},
		})
	}()
	h.readers.awaitSecond(t, "start=newest", found)
	taken.leave()
	if <-found; err != nil {
		t.Error(err)
	}
}

// awaitSecond returns when a second request of client 12 waits for room. The test fails if that request ends before.
func (r *fairRoom) awaitSecond(t *testing.T, request string, ended <-chan struct{}) {
	t.Helper()
	for waits := false; !waits; runtime.Gosched() {
		select {
		case <-ended:
			t.Fatalf("%s did not wait", request)
		default:
		}
		r.mu.Lock()
		waits = r.byClient["12"].requests == 2
		r.mu.Unlock()
	}
}

// The router has a GET wait for a reader, a large body for room, and a request that writes for its turn.
func TestRequestsWaitForRoom(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	o := Options{
		Store: ls.store, Guard: webhook.NewGuard(webhook.GuardOptions{}), Log: slog.New(slog.DiscardHandler),
		Heartbeat: ls.heartbeat,
	}
	h := newHandlers(o)
	router, err := h.router(o)
	if err != nil {
		t.Fatal(err)
	}
	token := ls.clientToken("12", gen.AccessLevelAll)
	for _, c := range []struct {
		room               *fairRoom
		share              int64
		method, path, body string
	}{
		{h.readers, h.readers.share, http.MethodGet, "/agent/local/136", ""},
		{h.readers, h.readers.share, http.MethodGet, "/status_change/", ""},
		{h.bodies, h.bodies.share, http.MethodPut, "/status/", "[" + strings.Repeat(" ", smallBody) + "]"},
		{h.writers, h.writers.share, http.MethodPut, "/agent/local/136", `{"extension_name":"x"}`},
	} {
		taken, err := c.room.take(t.Context(), "12", c.share)
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/api/ver1.0/client/12"+c.path,
				strings.NewReader(c.body))
			r.Header.Set("Authorization", token)
			r.Header.Set("Content-Type", "application/json")
			router.ServeHTTP(answer, r)
		}()
		c.room.awaitSecond(t, c.method+" "+c.path, answered)
		taken.leave()
		if <-answered; answer.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", c.method, c.path, answer.Code, answer.Body)
		}
	}
}
