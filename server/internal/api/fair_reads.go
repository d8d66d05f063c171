package api

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
)

// newReaderRoom returns room for requests that read from a store with so many readers. A client may have half of the
// readers. One reader is left to what is not counted: tokens, jobs and requests that write.
func newReaderRoom(readers int) *fairRoom {
	all := int64(readers - 1)
	return newFairRoom(all, all, int64(readers/2))
}

// readInTurn lets the handler of a GET read when it is its client's turn. The turn ends before the answer is sent: a
// slow client may delay that. A poll waits, and reads in turn itself.
func (h handlers) readInTurn(next api.StrictHandlerFunc, operation string) api.StrictHandlerFunc {
	return func(c echo.Context, r any) (answer any, err error) {
		if c.Request().Method != http.MethodGet || operation == "ListStatusChanges" {
			return next(c, r)
		}
		err = h.inTurn(c.Request().Context(), func() (err error) {
			answer, err = next(c, r)
			return err
		})
		return answer, err
	}
}

// inTurn calls a function that reads, when it is the turn of the caller's client. An error is the function's or that of
// ctx.
func (h handlers) inTurn(ctx context.Context, read func() error) error {
	taken, err := h.readers.take(ctx, limitedClient(ctx), 1)
	if err != nil {
		return err
	}
	defer taken.leave()
	return read()
}
