package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

const MaxBody = 1 << 20

// takeBody reads the body of a request that is to have one, and refuses it unless it is one JSON value.
func takeBody(c echo.Context, schema *openapi3.Schema) (value any, err error) {
	if schema == nil {
		return nil, nil
	}
	r := c.Request()
	body, err := ReadBody(c, MaxBody)
	switch {
	case err != nil:
		return nil, err
	case len(body) == 0:
		return nil, request.Refuse(http.StatusBadRequest, "a JSON body is required")
	case !isJSON(r.Header.Get(echo.HeaderContentType)):
		return nil, request.Refuse(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	value, err = parseBody(body)
	r.Body = validatedBody{bytes.NewReader(body), value}
	return value, err
}

// validatedBody is a body of which the generated binding takes the value, and the text only where that does not fit.
type validatedBody struct {
	*bytes.Reader
	value any
}

func (validatedBody) Close() error { return nil }

func (v validatedBody) ValidatedValue() any { return v.value }

// BodyValue is the JSON value of a body that validate has let pass, nil where the operation takes none.
func BodyValue(r *http.Request) any {
	if v, is := r.Body.(validatedBody); is {
		return v.value
	}
	return nil
}

// ReadBody refuses a body of more bytes than most, and one that is compressed.
func ReadBody(c echo.Context, most int64) ([]byte, error) {
	if coding := c.Request().Header.Get(echo.HeaderContentEncoding); coding != "" && !strings.EqualFold(coding, identityCoding) {
		return nil, refuseCompressed(c)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, most))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, request.Refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", most))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, request.Refuse(http.StatusRequestTimeout, "the body did not arrive in time")
	}
	if err != nil {
		return nil, request.Refuse(http.StatusBadRequest, "the body could not be read")
	}
	if bytes.HasPrefix(body, gzipMagic) {
		return nil, refuseCompressed(c)
	}
	return body, nil
}

// identityCoding is the content coding of what is sent as it is.
const identityCoding = "identity"

// gzipMagic is what data in gzip's form begin with, and neither JSON nor a form does.
var gzipMagic = []byte{0x1f, 0x8b}

// refuseCompressed refuses a body that no one decompresses here: RFC 9110, section 15.5.16.
func refuseCompressed(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderAcceptEncoding, identityCoding)
	return request.Refuse(http.StatusUnsupportedMediaType, "the body must not be compressed; the only Content-Encoding is identity")
}

// isJSON leaves the parameters of a media type aside, such as a charset, and whether they are well-formed.
func isJSON(contentType string) bool {
	if contentType == echo.MIMEApplicationJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return media == echo.MIMEApplicationJSON && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}

// parseBody refuses what is not one JSON value in UTF-8, and objects that name a member twice, of which Go would silently
// take the last.
func parseBody(body []byte) (any, error) {
	switch {
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return nil, request.Refuse(http.StatusBadRequest, "the body must not begin with a byte order mark")
	case bytes.HasPrefix(body, []byte{0xff, 0xfe}), bytes.HasPrefix(body, []byte{0xfe, 0xff}):
		return nil, request.Refuse(http.StatusBadRequest, "the body must be UTF-8, and is UTF-16")
	case !utf8.Valid(body):
		return nil, request.Refuse(http.StatusBadRequest, "the body is not valid UTF-8")
	case !json.Valid(body):
		err := json.Unmarshal(body, new(json.RawMessage))
		return nil, request.Refuse(http.StatusBadRequest, "the body is not valid JSON, "+syntaxErrorPosition(body, err))
	}
	var value any
	_ = newDecoder(body).Decode(&value) // which it can, as is known by now
	if countMembers(value) == countNames(body) {
		return value, nil
	}
	if name := repeatedName(newDecoder(body)); name != "" {
		return nil, request.Invalid(fieldError(name, "must be given only once"))
	}
	return value, nil
}

func newDecoder(body []byte) *json.Decoder {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d
}

// countMembers is how many members the objects in a value have in all.
func countMembers(value any) (n int) {
	switch v := value.(type) {
	case map[string]any:
		n = len(v)
		for _, member := range v {
			n += countMembers(member)
		}
	case []any:
		for _, item := range v {
			n += countMembers(item)
		}
	}
	return n
}

// countNames is how many names of members there are in a JSON text: a colon comes after each, and nowhere else but in strings.
func countNames(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\':
			i++ // what is escaped is of the string
		case c == ':' && !quoted:
			n++
		}
	}
	return n
}

// syntaxErrorPosition says where a JSON text goes wrong.
func syntaxErrorPosition(body []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || syntax.Error() == "unexpected end of JSON input" {
		return "it ends too early"
	}
	read := body[:max(syntax.Offset-1, 0)]
	line := bytes.Count(read, []byte("\n")) + 1
	column := utf8.RuneCount(read[bytes.LastIndexByte(read, '\n')+1:]) + 1
	return fmt.Sprintf("from line %d, column %d on", line, column)
}

// repeatedName returns the name of a member that an object in a JSON text has twice, or nothing. It is only called with
// what is known to be JSON, so that no token can be wrong.
func repeatedName(d *json.Decoder) (name string) {
	token, _ := d.Token()
	if token != json.Delim('[') && token != json.Delim('{') {
		return ""
	}
	names := map[json.Token]bool{}
	for name == "" && d.More() {
		if token == json.Delim('{') {
			key, _ := d.Token()
			if names[key] {
				return fmt.Sprint(key)
			}
			names[key] = true
		}
		name = repeatedName(d)
	}
	_, _ = d.Token() // the closing one
	return name
}
