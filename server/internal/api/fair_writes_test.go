package api

import (
	"context"
	"errors"
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

// writes are requests of callers to a handler that writes until end is closed.
type writes struct {
	handlers
	*testing.T
	writing chan string // gets the client of each request or commit that writes
	end     chan struct{}
}

func newWrites(t *testing.T) *writes {
	return &writes{handlers{writers: newWriterRoom()}, t, make(chan string, 20), make(chan struct{})}
}

// write writes in the name of a caller.
func (w *writes) write(ctx context.Context) error {
	w.writing <- request.Caller(ctx).Client
	<-w.end
	return nil
}

// begin begins a request, and returns where its result will be.
func (w *writes) begin(caller store.Caller, operation string) <-chan error {
	handler := w.writeInTurn(func(c echo.Context, _ any) (any, error) {
		return nil, w.write(c.Request().Context())
	}, operation)
	ctx := w.of(caller)
	return w.result(func() error {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
		_, err := handler(echo.New().NewContext(r, httptest.NewRecorder()), nil)
		return err
	})
}

func (w *writes) result(call func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- call() }()
	synctest.Wait()
	return result
}

func (w *writes) of(caller store.Caller) context.Context {
	return request.NewContext(w.Context(), &request.Info{Caller: caller})
}

// now returns the clients of the requests that have begun to write since, in order.
func (w *writes) now() (clients string) {
	synctest.Wait()
	for len(w.writing) > 0 {
		clients += <-w.writing
	}
	return clients
}

// ended checks that requests have succeeded, and that no client is kept.
func (w *writes) ended(results ...<-chan error) {
	w.Helper()
	for _, result := range results {
		if err := <-result; err != nil {
			w.Error(err)
		}
	}
	if n := len(w.writers.byClient); n != 0 {
		w.Errorf("%d clients are kept", n)
	}
}

// refused checks that a request finds no turn, and how long it waits for that.
func (w *writes) refused(result <-chan error) {
	w.Helper()
	began := time.Now()
	refusal, is := errors.AsType[*request.Refusal](<-result)
	if !is || refusal.Status != http.StatusServiceUnavailable || refusal.Body.Status != "server_busy" {
		w.Errorf("%v, want 503", refusal)
	}
	if waited := time.Since(began); waited != writePatience {
		w.Errorf("after %v", waited)
	}
}

// A client writes by two requests at a time, and the clients by four. Two more are for operators.
func TestWritersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWrites(t)
		var results []<-chan error
		begin := func(client string) { results = append(results, w.begin(ofClient(client), "PutLocalAgent")) }
		for range 2 {
			begin("a")
		}
		w.refused(w.begin(ofClient("a"), "DeleteAgent"))
		for range 2 {
			begin("b")
		}
		w.refused(w.begin(ofClient("c"), "DeleteAgent"))
		for range 2 {
			results = append(results, w.begin(ofOperator, "PutLocalAgent"))
		}
		w.refused(w.begin(ofOperator, "DeleteClient"))
		if order := w.now(); order != "aabb" { // and two operators, without a client
			t.Errorf("%q write", order)
		}
		for operation := range writesByItself {
			results = append(results, w.begin(ofClient("a"), operation))
		}
		if order := w.now(); order != strings.Repeat("a", len(writesByItself)) {
			t.Errorf("%q write by themselves", order)
		}
		close(w.end)
		w.ended(results...)
	})
}
