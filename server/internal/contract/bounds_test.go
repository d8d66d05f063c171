package contract

import (
	"errors"
	"fmt"
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
		{event, `{"x":{"y":1`, `,"y":1`, 7000, "x must have at most 1000 fields"},
		{event, `{"x":[[]`, `,[]`, 6500, "body must have at most 2000 values in all"},
		{event, `{"x":[{"a":1}`, `,{"a":[1,1,1]}`, 6500, "body must have at most 2000 values in all"},
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
		{event, `{"x":[` + strings.Repeat(`0,`, 1997) + `0]}`},
		{event, `{"x":` + strings.Repeat(`[`, 31) + strings.Repeat(`]`, 31) + `}`},
		{event, `{` + strings.Repeat(`"x":1,`, 999) + `"y":2}`},
	} {
		if err := checkBounds(strings.NewReader(c.body), c.schema); err != nil {
			t.Errorf("%.40s: %v", c.body, err)
		}
	}
}

// A body is refused at its first unknown field beyond those that one answer names.
func TestBodyIsRefusedAtItsUnknownFields(t *testing.T) {
	statuses := schemaOf(t, "/client/{client_id}/status/", http.MethodPut)
	var begin strings.Builder
	begin.WriteString(`[{"agent_id":1,"x":1,"agent_id":2}`)
	for i := range maxFieldErrors - 1 {
		fmt.Fprintf(&begin, `,{"y%d":[{"z":1}]}`, i)
	}
	if err := checkBounds(strings.NewReader(begin.String()+"]"), statuses); err != nil {
		t.Error(err)
	}
	more := &endless{text: `,{"z":1}`}
	err := checkBounds(io.MultiReader(strings.NewReader(begin.String()), more), statuses)
	refusal, refused := errors.AsType[*request.Refusal](err)
	if !refused || more.read > 1000 {
		t.Fatalf("after %d bytes: %v", more.read, err)
	}
	const message = "is not a field of this request; allowed are: agent_id, agent_status, agent_type, changed_at, " +
		"event_source"
	e := refusal.Body.Errors
	if len(e) != maxFieldErrors || e[0].Field != "0.x" || e[19].Field != "19.y18" || e[0].Message != message ||
		refusal.Body.Message != "the request is not valid, and these are the first 20 errors" {
		t.Errorf("%v", refusal.Body)
	}
}

// Every value of a text counts once, whatever its strings contain.
func TestBoundsCheckCountsValues(t *testing.T) {
	for body, want := range map[string]int{
		`1`: 1, ` "]" `: 1, `[]`: 1, ` { } `: 1, `[[],{}]`: 3, `[1,-2.5e+3,"",null]`: 5,
		`{"a\"b":[1,"x,]}\\",{"c":true}],"d" : 0 , "\u0065":"y:[{"}`: 8,
		"[\n1 ,\r\n\t2\n]\n": 3, `[[1],[[2]],3]`: 7,
	} {
		b := &boundsCheck{schema: anyValue, maxValues: 10}
		for i := range len(body) {
			ended, err := b.next(body[i])
			last := strings.TrimRight(body, " \n")
			if err != nil || ended && i < len(last)-1 && len(b.open) > 0 {
				t.Errorf("%s: ended %t at %d, %v", body, ended, i, err)
			}
			if ended {
				break
			}
		}
		if b.values != want || len(b.open) > 0 {
			t.Errorf("%s has %d values, want %d", body, b.values, want)
		}
	}
}

// A field is named as the text means it.
func TestUnknownFieldIsNamedWithoutEscapes(t *testing.T) {
	limits := schemaOf(t, "/client/{client_id}/limit/", http.MethodPut)
	b := &boundsCheck{schema: limits, maxValues: 10}
	for _, c := range []byte(`{"agent":{"limit":1,"\u006c\"\\":[]},"\ud83d\ude00":2,"x":3}`) {
		if _, err := b.next(c); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, e := range b.unknown.list {
		names = append(names, e.Field)
	}
	if got := strings.Join(names, " "); got != `agent.l"\ 😀 x` {
		t.Errorf("the unknown fields are %s", got)
	}
}

// The check of many values costs little beside their bytes.
func TestBoundsCheckAllocatesNothingForValues(t *testing.T) {
	event := schemaOf(t, "/client/{client_id}/agent/local/{agent_id}/event/", http.MethodPost)
	allocations := func(values int) float64 {
		body := `{"x":[` + strings.Repeat(`1,"y",{},`, values/3) + `0]}`
		return testing.AllocsPerRun(10, func() { _ = checkBounds(strings.NewReader(body), event) })
	}
	if few, many := allocations(30), allocations(1500); many > few+1 {
		t.Errorf("few values cost %.0f allocations, many %.0f", few, many)
	}
}

func BenchmarkBody(b *testing.B) {
	document, err := Load()
	if err != nil {
		b.Fatal(err)
	}
	schema := bodySchema(document.Paths.Value("/client/{client_id}/agent/local/{agent_id}/event/{event_id}").Put)
	for name, text := range map[string]string{
		"event":       `{"method":"GET"}`,
		"2000 values": `{"x":[` + strings.Repeat(`1,`, 1997) + `1]}`,
		"nested":      `{"x":[` + strings.Repeat(strings.Repeat(`[`, 29)+strings.Repeat(`]`, 29)+`,`, 60) + `1]}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := checkBounds(strings.NewReader(text), schema); err != nil {
					b.Fatal(err)
				}
				value, err := parseJSON([]byte(text))
				if err != nil || checkBody(schema, value) != nil {
					b.Fatal(err)
				}
				canonicalBody(schema, value)
			}
		})
	}
}
