package contract

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/server/internal/request"
)

// schemaOf is the schema of the body of an operation.
func schemaOf(t *testing.T, path, method string) *openapi3.Schema {
	t.Helper()
	document, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return bodySchema(document.Paths.Value(path).GetOperation(method))
}

// endless repeats a text, and counts the bytes that are read of it.
type endless struct {
	text string
	read int
}

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.read%len(e.text):])
	e.read += n
	return n, nil
}

// A body that goes on for ever is refused soon after its bound.
func TestBodyIsRefusedAtItsBound(t *testing.T) {
	statuses := schemaOf(t, "/client/{client_id}/status/", http.MethodPut)
	event := schemaOf(t, "/client/{client_id}/agent/local/{agent_id}/event/", http.MethodPost)
	for _, c := range []struct {
		schema        *openapi3.Schema
		begin, repeat string
		most          int // bytes
		want          string
	}{
		{statuses, `[{}`, `,{}`, 4000, "body must have at most 1000 items"},
		{statuses, `[{},[0`, `,0`, 45_000, "body must have at most 20000 values in all"},
		{statuses, `[{},{"a":0`, `,"b":0`, 7000, "1 must have at most 1000 fields"},
		{event, `{"x":{"y":1`, `,"y":1`, 7000, "x must have at most 1000 fields"},
		{event, `{"x":[[]`, `,[]`, 65_000, "body must have at most 20000 values in all"},
		{event, `{"x":[{"a":1}`, `,{"a":[1,1,1]}`, 65_000, "body must have at most 20000 values in all"},
		{event, `{"x":`, `[`, 600, "x" + strings.Repeat(".0", 31) + " must be nested at most 32 levels deep"},
		{event, ``, `{"x":`, 1000, "x" + strings.Repeat(".x", 31) + " must be nested at most 32 levels deep"},
	} {
		more := &endless{text: c.repeat}
		err := checkBounds(io.MultiReader(strings.NewReader(c.begin), more), c.schema)
		refusal, refused := errors.AsType[*request.Refusal](err)
		if !refused || refusal.Status != http.StatusBadRequest {
			t.Fatalf("%s%s…: %v", c.begin, c.repeat, err)
		}
		if e := refusal.Body.Errors[0]; e.Field+" "+e.Message != c.want || more.read > c.most {
			t.Errorf("%s%s…: after %d bytes: %s %s, want %s",
				c.begin, c.repeat, more.read, e.Field, e.Message, c.want)
		}
	}
}

// A body up to its bounds is not refused, whatever else is wrong with it.
func TestBodyWithinItsBounds(t *testing.T) {
	statuses := schemaOf(t, "/client/{client_id}/status/", http.MethodPut)
	event := schemaOf(t, "/client/{client_id}/agent/local/{agent_id}/event/", http.MethodPost)
	for _, c := range []struct {
		schema *openapi3.Schema
		body   string
	}{
		{statuses, ``},
		{statuses, `nul`},
		{statuses, `[}`},
		{statuses, `{"a"`},
		{statuses, `[` + strings.Repeat(`{"agent_id":1e400},`, 999) + `{}]`},
		{statuses, `[` + strings.Repeat(`{},`, 999) + `{}],{}`},
		{event, `{"x":[` + strings.Repeat(`0,`, 19_996) + `0]}`},
		{event, `{"x":` + strings.Repeat(`[`, 31) + strings.Repeat(`]`, 31) + `}`},
		{event, `{` + strings.Repeat(`"x":1,`, 999) + `"y":2}`},
	} {
		if err := checkBounds(strings.NewReader(c.body), c.schema); err != nil {
			t.Errorf("%.40s: %v", c.body, err)
		}
	}
}
