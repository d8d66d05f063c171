package api

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	// maxBodyRoom is the room for the bodies in progress, in bytes. While a request is processed, it takes up to
	// eight times as much as its body.
	maxBodyRoom = 32 << 20
	// smallBody is the size up to which a body takes no room: it costs less than the connection that it arrives on. So
	// the status of one agent and a request for a token never wait for larger bodies.
	smallBody = 4 << 10
	// bodyPatience is the longest time that a request waits for room. Limits.Request includes it.
	bodyPatience = 3 * time.Second
	// withoutToken is the client of requests for tokens. No client has this id.
	withoutToken = "(none)"
)

// newBodyRoom returns room for bodies, of a size in bytes. A client may have an eighth of it, and the clients together
// three quarters.
func newBodyRoom(size int64) *fairRoom { return newFairRoom(size, size/4*3, size/8) }

// takeBodyRoom takes room for the body of a request before the body is read, and refuses the request if there is none
// in time. The room is as large as the Content-Length. Without one, it is limit until the body has arrived.
func takeBodyRoom(room *fairRoom, limit int64) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if r.ContentLength >= 0 && r.ContentLength <= smallBody {
				return next(c)
			}
			size := min(limit, room.share)
			if r.ContentLength > 0 {
				size = min(size, r.ContentLength)
			}
			taken, err := room.takeWithin(r.Context(), bodyPatience, bodyOwner(r.Context()), size,
				"other requests with large bodies are in progress, try again")
			if err != nil {
				return err
			}
			defer taken.leave()
			r.Body = &countedBody{ReadCloser: r.Body, room: taken}
			return next(c)
		}
	}
}

// bodyOwner returns the client whose share a body is taken from, empty for an operator.
func bodyOwner(ctx context.Context) string {
	if request.Caller(ctx).Application == "" {
		return withoutToken
	}
	return limitedClient(ctx)
}

// countedBody gives back the room that a body does not need, once the body has arrived.
type countedBody struct {
	io.ReadCloser
	room *takenRoom
	read int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	size := b.read
	if size <= smallBody {
		size = 0
	}
	if errors.Is(err, io.EOF) && size < b.room.size {
		b.room.shrink(size)
	}
	return n, err
}
