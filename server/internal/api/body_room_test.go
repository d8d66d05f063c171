package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// bodies sends bodies through takeBodyRoom to a handler that reads and keeps them.
type bodies struct {
	*testing.T
	send echo.HandlerFunc
	end  chan struct{} // closed when the handler must end
}

func newBodies(t *testing.T, size, limit int64) *bodies {
	b := &bodies{T: t, end: make(chan struct{})}
	b.send = takeBodyRoom(newBodyRoom(size), limit)(func(c echo.Context) error {
		if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
			return err
		}
		<-b.end
		return nil
	})
	return b
}

// begin sends a body of a caller, and returns where its result will be.
func (b *bodies) begin(caller store.Caller, size int, chunked bool) <-chan error {
	r := httptest.NewRequestWithContext(request.NewContext(b.Context(), &request.Info{Caller: caller}),
		http.MethodPost, "/", strings.NewReader(strings.Repeat("x", size)))
	if chunked {
		r.ContentLength = -1
	}
	result := make(chan error, 1)
	go func() { result <- b.send(echo.New().NewContext(r, httptest.NewRecorder())) }()
	synctest.Wait()
	return result
}

// refused checks that a body finds no room, and how long it waits for that.
func (b *bodies) refused(result <-chan error) {
	b.Helper()
	began := time.Now()
	refusal, is := errors.AsType[*request.Refusal](<-result)
	if !is || refusal.Status != http.StatusServiceUnavailable || refusal.Body.Status != "server_busy" {
		b.Errorf("%v, want 503", refusal)
	}
	if waited := time.Since(began); waited != bodyPatience {
		b.Errorf("after %v", waited)
	}
}

// ended checks that the handlers have had all bodies.
func (b *bodies) ended(results ...<-chan error) {
	b.Helper()
	close(b.end)
	for _, result := range results {
		if err := <-result; err != nil {
			b.Error(err)
		}
	}
}

func ofClient(id string) store.Caller { return store.Caller{Application: "app", Client: id} }

var ofOperator = store.Caller{Application: "app", Access: store.Operator}

func TestClientHasItsShareOfBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t, 320<<10, 40<<10)
		first := b.begin(ofClient("a"), 30<<10, false)
		b.refused(b.begin(ofClient("a"), 11<<10, false))
		second := b.begin(ofClient("a"), 10<<10, false)
		small := b.begin(ofClient("a"), 4<<10, false)
		b.refused(b.begin(ofClient("a"), 5<<10, true))
		other := b.begin(ofClient("b"), 40<<10, false)
		b.ended(first, second, small, other)
		b.hasRoom(ofClient("a"), 40<<10)
	})
}

// hasRoom checks that there is room again.
func (b *bodies) hasRoom(caller store.Caller, size int) {
	b.Helper()
	if err := <-b.begin(caller, size, false); err != nil {
		b.Error(err)
	}
}

// A small body of unknown length arrives although all room is taken.
func TestSmallBodyOfUnknownLengthTakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t, 320<<10, 40<<10)
		all := b.begin(store.Caller{}, 40<<10, false)
		small := b.begin(store.Caller{}, 4<<10, true)
		b.refused(b.begin(store.Caller{}, 4<<10+1, true))
		b.ended(all, small)
	})
}

// A body without Content-Length takes the room of the longest one only until it has arrived.
func TestBodyOfUnknownLengthGivesRoomBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t, 320<<10, 10<<10)
		results := []<-chan error{}
		for range 10 {
			results = append(results, b.begin(ofClient("a"), 4<<10, true))
		}
		for range 7 {
			results = append(results, b.begin(ofClient("a"), 5<<10, true))
		}
		b.refused(b.begin(ofClient("a"), 5<<10, true))
		b.ended(results...)
	})
}

func TestOperatorHasRoomThatClientsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t, 320<<10, 40<<10)
		results := []<-chan error{}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			results = append(results, b.begin(ofClient(id), 40<<10, false))
		}
		results = append(results, b.begin(store.Caller{}, 40<<10, false)) // a request for a token
		b.refused(b.begin(ofClient("f"), 5<<10, false))
		b.refused(b.begin(store.Caller{}, 5<<10, false))
		results = append(results, b.begin(ofOperator, 40<<10, false), b.begin(ofOperator, 40<<10, false))
		b.refused(b.begin(ofOperator, 5<<10, false))
		b.ended(results...)
	})
}

// A body waits until another one leaves, and gives no room away when its client closes the connection meanwhile.
func TestBodyWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newBodyRoom(320 << 10)
		first, err := room.take(t.Context(), "a", 40<<10)
		if err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		waits := make(chan error, 2)
		go func() {
			_, err := room.takeWithin(gone, bodyPatience, "a", 40<<10, "full")
			waits <- err
		}()
		synctest.Wait()
		go func() {
			_, err := room.takeWithin(t.Context(), bodyPatience, "a", 40<<10, "full")
			waits <- err
		}()
		synctest.Wait()
		leave()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		first.leave()
		if err := <-waits; err != nil {
			t.Error(err)
		}
	})
}

// Nothing is kept of clients without requests.
func TestRoomForgetsClients(t *testing.T) {
	room := newFairRoom(10, 10, 5)
	for _, id := range []string{"a", "b", ""} {
		taken, err := room.take(t.Context(), id, 5)
		if err != nil {
			t.Fatal(err)
		}
		taken.leave()
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := room.take(ended, "c", 6); err == nil {
		t.Error("there was room for more than a share")
	}
	if n := len(room.byClient); n != 0 {
		t.Errorf("%d clients are kept", n)
	}
}
