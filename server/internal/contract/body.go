package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

// The maximum numbers of bytes of a JSON body.
const (
	maxBody = 64 << 10
	maxBulk = 1 << 20 // of a bulk request: an array
)

// MaxBody returns the maximum number of bytes of the JSON body of an operation.
func MaxBody(operation *openapi3.Operation) int64 {
	if schema := bodySchema(operation); schema != nil {
		return maxBodyOf(schema)
	}
	return maxBody
}

func maxBodyOf(schema *openapi3.Schema) int64 {
	if schema.Type.Is(openapi3.TypeArray) {
		return maxBulk
	}
	return maxBody
}

// takeBody reads the body of a request, and refuses it unless it is one JSON value. If the operation has no schema for
// a body, takeBody reads nothing.
func takeBody(c echo.Context, schema *openapi3.Schema) (value any, err error) {
	if schema == nil {
		return nil, nil
	}
	r := c.Request()
	typed := isJSON(r.Header.Get(echo.HeaderContentType))
	text, err := readBody(c, maxBodyOf(schema), func(body io.Reader) error {
		if !typed {
			return nil // it is refused for its type
		}
		return checkBounds(body, schema)
	})
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, request.Refuse(http.StatusBadRequest, "a JSON body is required")
	case !typed:
		return nil, request.Refuse(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	value, err = parseJSON(text)
	r.Body = parsedBody{bytes.NewReader(text), value}
	return value, err
}

// parsedBody is a body with its JSON value. The generated binding uses the value. It parses the text only if the value
// does not fit the Go type.
type parsedBody struct {
	*bytes.Reader
	value any
}

// Close implements io.ReadCloser.
func (parsedBody) Close() error { return nil }

// ValidatedValue returns the value, by the interface that the generated binding expects.
func (b parsedBody) ValidatedValue() any { return b.value }

// BodyValue returns the JSON value of a body that Validate accepted, or nil if the operation has no body.
func BodyValue(r *http.Request) any {
	if b, ok := r.Body.(parsedBody); ok {
		return b.value
	}
	return nil
}

// ReadBody reads the body of a request. It refuses a body that is longer than limit, or compressed. If a read of the
// body fails with a *request.Refusal, ReadBody returns that.
func ReadBody(c echo.Context, limit int64) ([]byte, error) {
	return readBody(c, limit, func(io.Reader) error { return nil })
}

// readBody is ReadBody with a check of the body while it arrives. The check may read a part of the body, and refuse it.
func readBody(c echo.Context, limit int64, check func(body io.Reader) error) ([]byte, error) {
	coding := c.Request().Header.Get(echo.HeaderContentEncoding)
	if coding != "" && !strings.EqualFold(coding, identity) {
		return nil, refuseCompressed(c)
	}
	body := http.MaxBytesReader(c.Response().Writer, c.Request().Body, limit)
	var text bytes.Buffer
	if err := check(io.TeeReader(body, &text)); err != nil {
		return nil, err
	}
	_, err := text.ReadFrom(body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		message := fmt.Sprintf("the body may have at most %d bytes", limit)
		return nil, request.Refuse(http.StatusRequestEntityTooLarge, message)
	}
	refusal, refused := errors.AsType[*request.Refusal](err)
	switch {
	case refused:
		return nil, refusal
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, request.Refuse(http.StatusRequestTimeout, "the body did not arrive in time")
	case err != nil:
		return nil, request.Refuse(http.StatusBadRequest, "the body could not be read")
	case bytes.HasPrefix(text.Bytes(), gzipMagic):
		return nil, refuseCompressed(c)
	}
	return text.Bytes(), nil
}

// identity is the Content-Encoding of an uncompressed body.
const identity = "identity"

// gzipMagic is the beginning of data in the gzip format. Neither JSON nor a form begins with it.
var gzipMagic = []byte{0x1f, 0x8b}

// refuseCompressed answers by RFC 9110, section 15.5.16.
func refuseCompressed(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderAcceptEncoding, identity)
	return request.Refuse(http.StatusUnsupportedMediaType,
		"the body must not be compressed; the only Content-Encoding is identity")
}

// isJSON ignores the parameters of a media type, such as a charset, even if they are malformed.
func isJSON(contentType string) bool {
	if contentType == echo.MIMEApplicationJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return media == echo.MIMEApplicationJSON && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}
