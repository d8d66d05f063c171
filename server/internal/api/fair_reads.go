package api

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
)

const (
	// bigPage is the number of entries that a request may ask for without being one for a big page.
	bigPage = 100
	// bigPageRest is how many times as long as it has taken to read a big page the client must wait for the next one.
	// Meanwhile the page is encoded, which takes about as long, and the processor is free for others.
	bigPageRest = 2
)

// newReaderRoom returns room for requests that read from a store with so many readers. A client may have half of the
// readers. One reader is left to what is not counted: tokens, jobs and requests that write.
func newReaderRoom(readers int) *fairRoom {
	all := int64(readers - 1)
	return newFairRoom(all, all, int64(readers/2))
}

// newBigPageRoom returns room for one big page of each client.
func newBigPageRoom() *fairRoom { return newFairRoom(math.MaxInt32, math.MaxInt32, 1) }

// readInTurn lets the handler of a GET read when it is its client's turn. The turn ends before the answer is sent: a
// slow client may delay that. The feed, which may wait, reads in turn itself.
func (h handlers) readInTurn(next api.StrictHandlerFunc, operation string) api.StrictHandlerFunc {
	return func(c echo.Context, r any) (answer any, err error) {
		if c.Request().Method != http.MethodGet || operation == "ListStatusChanges" {
			return next(c, r)
		}
		err = h.inTurn(c.Request().Context(), entriesOf(c, operation), func() (err error) {
			answer, err = next(c, r)
			return err
		})
		return answer, err
	}
}

// entriesOf returns the number of entries that a valid request asks for, if that may be many.
func entriesOf(c echo.Context, operation string) int {
	entries, _ := strconv.Atoi(c.QueryParam("limit"))
	if entries == 0 && (operation == "ListLocalAgents" || operation == "ListRemoteAgents") {
		return math.MaxInt // all agents
	}
	return entries
}

// inTurn calls a function that reads a page of so many entries, when it is the turn of the caller's client. An error is
// the function's or that of ctx.
func (h handlers) inTurn(ctx context.Context, entries int, read func() error) error {
	client := limitedClient(ctx)
	if entries <= bigPage || client == "" {
		return h.readTurn(ctx, client, read)
	}
	page, err := h.bigPages.take(ctx, client, 1)
	if err != nil {
		return err
	}
	var took time.Duration // without the wait for a reader
	defer func() { time.AfterFunc(bigPageRest*took, page.leave) }()
	return h.readTurn(ctx, client, func() error {
		begun := time.Now()
		defer func() { took = time.Since(begun) }()
		return read()
	})
}

func (h handlers) readTurn(ctx context.Context, client string, read func() error) error {
	taken, err := h.readers.take(ctx, client, 1)
	if err != nil {
		return err
	}
	defer taken.leave()
	return read()
}
