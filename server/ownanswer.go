package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// ownHeader stands between the status line and the body of an answer that net/http gives without a handler. The answer
// of a handler always has a Date.
const ownHeader = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// ownAnswer is an answer that net/http gives without a handler, to a request that it cannot read.
type ownAnswer struct {
	status int
	text   string // such as "400 Bad Request: missing required Host header"
}

// readOwnAnswer reports whether bytes that net/http writes are such an answer. A status 417 always is.
func readOwnAnswer(p []byte) (ownAnswer, bool) {
	line, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 400") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return ownAnswer{}, false
	}
	text, own := bytes.CutPrefix(rest, []byte(ownHeader))
	status, err := strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 400")]))
	return ownAnswer{status, string(text)}, err == nil && (own || status == http.StatusExpectationFailed)
}

// refusal is what the API says instead. lineRead says whether the request line ended within the bound of the head.
func (a ownAnswer) refusal(lineRead bool) *refusal {
	switch a.status {
	case http.StatusRequestHeaderFieldsTooLarge:
		if !lineRead {
			return longURL()
		}
		return refuse(a.status, fmt.Sprintf("the head of the request may have at most %d bytes", maxHead))
	case http.StatusExpectationFailed:
		return refuse(a.status, "the header Expect must be 100-continue")
	case http.StatusNotImplemented:
		return refuse(a.status, "the Transfer-Encoding must be chunked")
	case http.StatusHTTPVersionNotSupported:
		return refuse(a.status, "the protocol must be HTTP/1.0 or HTTP/1.1")
	}
	message := "the head of the request is malformed"
	if _, reason, ok := strings.Cut(a.text, ": "); ok {
		message += ": " + reason
	}
	return refuse(a.status, message)
}

// refuse logs a refusal and returns the answer, which closes the connection.
func (c *conn) refuse(r *refusal) []byte {
	id := rand.Text()
	c.on.log.Info("request refused", "status", r.status, "error", r, "address", c.RemoteAddr().String(), "request_id", id)
	body, _ := json.Marshal(r.body) // only strings
	header := http.Header{}
	boundBrowser(header, showsNothing)
	header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	header.Set(echo.HeaderXRequestID, id)
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var answer bytes.Buffer
	_ = (&http.Response{
		StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: header,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}).Write(&answer) // a buffer takes all
	return answer.Bytes()
}
