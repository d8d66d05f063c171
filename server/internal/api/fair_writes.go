package api

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
)

const (
	// maxWrites is the room for requests that write at the same time. The other connections that write to PostgreSQL
	// are left to single status changes and to the dispatcher.
	maxWrites = 6
	// writePatience is the longest time that a request waits for its turn to write.
	writePatience = 10 * time.Second
)

// newWriterRoom returns room for requests that write. A client may have a third of it, and the clients together two
// thirds.
func newWriterRoom() *fairRoom { return newFairRoom(maxWrites, maxWrites/3*2, maxWrites/3) }

// writesByItself are the operations that take no turn in writeInTurn. The store has clients take turns when it sets
// statuses. The others write little: test deliveries have a limiter, and tokens have a rate.
var writesByItself = map[string]bool{
	"PutLocalAgentStatus": true, "PutRemoteAgentStatus": true, "PutStatuses": true,
	"TestLocalAgentEvent": true, "TestRemoteAgentEvent": true, "RequestToken": true,
}

// writeInTurn lets the handler of a request that writes begin when it is its client's turn. It refuses the request if
// that is not within writePatience. So a client with many requests delays its own ones.
func (h handlers) writeInTurn(next api.StrictHandlerFunc, operation string) api.StrictHandlerFunc {
	return func(c echo.Context, r any) (any, error) {
		if c.Request().Method == http.MethodGet || writesByItself[operation] {
			return next(c, r)
		}
		ctx := c.Request().Context()
		taken, err := h.writers.takeWithin(ctx, writePatience, limitedClient(ctx), 1,
			"other requests that write are in progress, try again")
		if err != nil {
			return nil, err
		}
		defer taken.leave()
		return next(c, r)
	}
}
