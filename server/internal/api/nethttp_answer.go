package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

// netHTTPHeader is the header of an answer that net/http writes itself. An answer of a handler has a Date.
const netHTTPHeader = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// netHTTPAnswer is the answer of net/http itself to a malformed request.
type netHTTPAnswer struct {
	status int
	text   string // such as "400 Bad Request: missing required Host header"
}

// parseNetHTTPAnswer parses an answer that net/http writes itself, and reports whether p is one. Every answer 417 is
// one.
func parseNetHTTPAnswer(p []byte) (netHTTPAnswer, bool) {
	line, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 400") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return netHTTPAnswer{}, false
	}
	text, found := bytes.CutPrefix(rest, []byte(netHTTPHeader))
	status, err := strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 400")]))
	return netHTTPAnswer{status, string(text)}, err == nil && (found || status == http.StatusExpectationFailed)
}

// refusal returns the answer of the API in its place. lineRead reports whether the request line was complete within the
// limit of the head.
func (a netHTTPAnswer) refusal(lineRead bool) *request.Refusal {
	switch a.status {
	case http.StatusRequestHeaderFieldsTooLarge:
		if !lineRead {
			return refuseLongURL()
		}
		return request.Refuse(a.status, fmt.Sprintf("the head of the request may have at most %d bytes", maxHead))
	case http.StatusExpectationFailed:
		return request.Refuse(a.status, "the header Expect must be 100-continue")
	case http.StatusNotImplemented:
		return request.Refuse(a.status, "the Transfer-Encoding must be chunked")
	case http.StatusHTTPVersionNotSupported:
		return request.Refuse(a.status, "the protocol must be HTTP/1.0 or HTTP/1.1")
	}
	message := "the head of the request is malformed"
	if _, reason, ok := strings.Cut(a.text, ": "); ok {
		message += ": " + reason
	}
	return request.Refuse(a.status, message)
}

// refuse logs a refusal and returns the bytes of its answer, after which the connection closes.
func (c *conn) refuse(r *request.Refusal) []byte {
	id := request.NewID()
	if c.on.lines.Allow() {
		c.on.log.Info("request refused",
			"status", r.Status, "error", r, "address", c.RemoteAddr().String(), "request_id", id)
	}
	body, _ := json.Marshal(r.Body) // cannot fail: all fields are strings
	header := http.Header{}
	setBrowserHeaders(header, defaultPolicy)
	header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	header.Set(echo.HeaderXRequestID, id)
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var answer bytes.Buffer
	_ = (&http.Response{
		StatusCode: r.Status, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: header,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}).Write(&answer) // cannot fail: a buffer accepts all bytes
	return answer.Bytes()
}
