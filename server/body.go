package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
)

const maxBody = 1 << 20

// takeBody reads the body of a request that is to have one, and refuses it unless it is one JSON value.
func takeBody(c echo.Context, schema *openapi3.Schema) (value any, err error) {
	if schema == nil {
		return nil, nil
	}
	r := c.Request()
	body, err := readBody(c, maxBody)
	switch {
	case err != nil:
		return nil, err
	case len(body) == 0:
		return nil, refuse(http.StatusBadRequest, "a JSON body is required")
	case !isJSON(r.Header.Get(echo.HeaderContentType)):
		return nil, refuse(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	value, err = decode(body)
	r.Body = validated{io.NopCloser(bytes.NewReader(body)), value}
	return value, err
}

// validated is a body of which the generated binding takes the value, and the text only where that does not fit.
type validated struct {
	io.ReadCloser
	value any
}

func (v validated) ValidatedValue() any { return v.value }

// readBody refuses a body of more bytes than most.
func readBody(c echo.Context, most int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, most))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", most))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refuse(http.StatusRequestTimeout, "the body did not arrive in time")
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body could not be read")
	}
	return body, nil
}

// isJSON leaves the parameters of a media type aside, such as a charset, and whether they are well-formed.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return media == echo.MIMEApplicationJSON && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}

// decode refuses what is not one JSON value in UTF-8, and objects that name a member twice, of which Go would silently
// take the last.
func decode(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	if !json.Valid(body) {
		err := json.Unmarshal(body, new(json.RawMessage))
		return nil, refuse(http.StatusBadRequest, "the body is not valid JSON, "+where(body, err))
	}
	tokens := json.NewDecoder(bytes.NewReader(body))
	tokens.UseNumber()
	return nextValue(tokens)
}

// where says where a JSON text goes wrong.
func where(body []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || syntax.Error() == "unexpected end of JSON input" {
		return "it ends too early"
	}
	read := body[:max(syntax.Offset-1, 0)]
	line := bytes.Count(read, []byte("\n")) + 1
	column := utf8.RuneCount(read[bytes.LastIndexByte(read, '\n')+1:]) + 1
	return fmt.Sprintf("from line %d, column %d on", line, column)
}

// nextValue returns the next value of a JSON text. It is only called with what is known to be JSON, so that no token can be
// wrong.
func nextValue(d *json.Decoder) (any, error) {
	token, _ := d.Token()
	switch token {
	case json.Delim('{'):
		return nextObject(d)
	case json.Delim('['):
		return nextArray(d)
	}
	return token, nil
}

func nextObject(d *json.Decoder) (_ any, err error) {
	object := map[string]any{}
	for d.More() {
		token, _ := d.Token()
		name, _ := token.(string)
		if _, known := object[name]; known {
			return nil, invalid(fieldError(name, "is given twice"))
		}
		if object[name], err = nextValue(d); err != nil {
			return nil, err
		}
	}
	_, _ = d.Token() // the closing one
	return object, nil
}

func nextArray(d *json.Decoder) (any, error) {
	array := []any{}
	for d.More() {
		item, err := nextValue(d)
		if err != nil {
			return nil, err
		}
		array = append(array, item)
	}
	_, _ = d.Token() // the closing one
	return array, nil
}
