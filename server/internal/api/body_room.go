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

// takeBodyRoom takes room for a body that is not small, and refuses the request if there is none in time. The room is
// as large as the Content-Length, and is taken before the body is read. Without a Content-Length, it is limit until the
// body has arrived, and is taken when the body has proved not to be small.
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
			body := &countedBody{ReadCloser: r.Body, take: func() (*takenRoom, error) {
				return room.takeWithin(r.Context(), bodyPatience, bodyOwner(r.Context()), size,
					"other requests with large bodies are in progress, try again")
			}}
			defer body.leave()
			if r.ContentLength > 0 && !body.hasRoom() {
				return body.refusal
			}
			r.Body = body
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

// countedBody takes room unless the body is small, and gives back what the body does not need once it has arrived.
type countedBody struct {
	io.ReadCloser
	take    func() (*takenRoom, error)
	room    *takenRoom // nil before take
	refusal error      // of take
	read    int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	if b.read > smallBody && !b.hasRoom() {
		return 0, b.refusal
	}
	if b.room == nil {
		p = p[:min(int64(len(p)), smallBody+1-b.read)]
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if errors.Is(err, io.EOF) && b.room != nil {
		b.shrink()
	}
	return n, err
}

// hasRoom takes room if none was taken. After a refusal it does not try again.
func (b *countedBody) hasRoom() bool {
	if b.room == nil && b.refusal == nil {
		b.room, b.refusal = b.take()
	}
	return b.refusal == nil
}

// shrink gives back the room beyond the size of the body.
func (b *countedBody) shrink() {
	size := b.read
	if size <= smallBody {
		size = 0
	}
	if size < b.room.size {
		b.room.shrink(size)
	}
}

// leave gives all room back.
func (b *countedBody) leave() {
	if b.room != nil {
		b.room.leave()
	}
}
