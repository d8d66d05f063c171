package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"
)

// Random requests, valid and invalid, never get a 5xx. Each answer has a status and a body that openapi.yaml declares,
// and no words of the implementation. Invalid requests are refused. On a failure, rapid prints its seed and the
// shortest failing sequence of requests. For more requests: -rapid.checks=10000.
func TestContractFuzz(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	close(ts.stopping) // so that no poll waits
	rapid.Check(t, func(t *rapid.T) {
		ts.arrange(scenario{setup: (*testServer).withReplays, kind: localKind})
		for range rapid.IntRange(20, 40).Draw(t, "requests") {
			s := ts.drawRequest(t)
			resp, err := ts.do(s)
			if err != nil {
				t.Fatalf("%s: %v", s.request, err)
			}
			if err := ts.check(resp); err != nil {
				t.Fatalf("%s %.200q: %v\n%d %s", s.request, s.body, err, resp.status, resp.body)
			}
			ts.checkAgainstDocument(t, s, resp)
		}
	})
}

// checkAgainstDocument compares the status with that which openapi.yaml allows for the request.
func (ts *testServer) checkAgainstDocument(t *rapid.T, s scenario, resp *apiResponse) {
	if resp.status >= 500 {
		t.Fatalf("%s %.200q: %d %s", s.request, s.body, resp.status, resp.body)
	}
	if resp.operation == nil {
		return
	}
	forbidden := ts.checkRequest(resp)
	if forbidden != nil && resp.status < 300 {
		t.Fatalf("%s %.200q: %d %s, but the document forbids it: %v", s.request, s.body, resp.status, resp.body,
			forbidden)
	}
	typed, sized := resp.status != http.StatusUnsupportedMediaType, resp.status != http.StatusRequestEntityTooLarge
	if forbidden == nil && !typed || !sized && len(s.body) <= s.maxBody() {
		t.Fatalf("%s %.200q: %d %s, but the document allows it", s.request, s.body, resp.status, resp.body)
	}
}

// oneOf draws one of several values.
func oneOf[V any](t *rapid.T, label string, values ...V) V {
	return rapid.SampledFrom(values).Draw(t, label)
}

// rarely is true once in a number of draws.
func rarely(t *rapid.T, label string, in int) bool {
	return rapid.IntRange(1, in).Draw(t, label) == in
}

func (ts *testServer) drawRequest(t *rapid.T) scenario {
	e := ts.operationByID(oneOf(t, "operation", ts.ids()...))
	method := e.method
	if rarely(t, "other method", 30) {
		method = oneOf(t, "method", "GET", "POST", "PUT", "DELETE", "PATCH", "HEADER")
	}
	s := scenario{request: method + " " + drawPath(t, e) + drawQuery(t, e), header: drawHeader(t)}
	if media := e.jsonBody(); media != nil {
		s.body = drawBody(t, media.Schema.Value)
	} else if rarely(t, "needless body", 10) {
		s.body = "{}"
	}
	s.chunked = s.body != "" && rarely(t, "chunked", 10)
	return s
}

func (c *document) ids() (all []string) {
	for _, e := range c.operations {
		all = append(all, e.id)
	}
	return all
}

// parameters returns the parameters of the operation and of its path.
func (e *apiOperation) parameters(in string) (all []*openapi3.Parameter) {
	for _, list := range []openapi3.Parameters{e.route.PathItem.Parameters, e.spec.Parameters} {
		for _, p := range list {
			if p.Value.In == in {
				all = append(all, p.Value)
			}
		}
	}
	return all
}

func drawPath(t *rapid.T, e *apiOperation) string {
	path := e.path
	for _, p := range e.parameters("path") {
		value := oneOf(t, p.Name, existingIDs[p.Name]...)
		if rarely(t, "other "+p.Name, 6) {
			value = drawText(t, p.Schema.Value)
		}
		path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(value), 1)
	}
	if rarely(t, "other form", 5) {
		return strings.TrimSuffix(path, "/") + oneOf(t, "slashes", "", "/", "//")
	}
	return path
}

// existingIDs are existing ids, by parameter.
var existingIDs = map[string][]string{
	"client_id": {"12", "12", "12", "@me"}, "agent_id": {"136", "7"}, "event_id": {"1", "2", "3"},
	"delivery_id": {"1", "2", "3", "4", "5", "6"}, "replay_id": {"1", "2", "3"},
	"application_id": {allToken.id(), otherClientToken.id(), operatorToken.id()},
}

// drawText draws the text of a parameter, which is often invalid.
func drawText(t *rapid.T, s *openapi3.Schema) string {
	switch {
	case len(s.AllOf) > 0:
		return drawText(t, s.AllOf[0].Value)
	case len(s.Enum) > 0 && rapid.Bool().Draw(t, "right"):
		text, _ := rapid.SampledFrom(s.Enum).Draw(t, "enum").(string)
		return text
	case s.Format == "date-time" && rapid.Bool().Draw(t, "right"):
		return drawString(t, s)
	case s.Type.Is(openapi3.TypeArray):
		return drawText(t, s.Items.Value)
	case s.Type.Is(openapi3.TypeInteger) && rapid.Bool().Draw(t, "right"):
		number, _ := json.Marshal(drawInteger(t, s))
		return string(number)
	case s.Pattern != "" && rapid.Bool().Draw(t, "right"):
		return rapid.StringMatching(s.Pattern).Draw(t, "text")
	}
	return oneOf(t, "odd text", "", "0", "-1", "4294967296", "99999999999999999999", "1e2", "1.0", "0x1", "+7", "007",
		" 7", "7 ", "null", "true", "x", ".", "..", "a/b", "%", "%2F", "@you", "ы", "😀", "\x00", "\n", "\xff", "[]",
		"5,6",
		"{}", "'", "\"", strings.Repeat("9", 300), strings.Repeat("x", 65))
}

func drawQuery(t *rapid.T, e *apiOperation) string {
	var pairs []string
	for _, p := range e.parameters("query") {
		for rarely(t, "with "+p.Name, 3) {
			name := oneOf(t, "form", p.Name, p.Name, p.Name+"[]", p.Name+"[0]", p.Name+"%5B1%5D", p.Name+"[x]", p.Name+
				"[")
			pairs = append(pairs, name+"="+url.QueryEscape(drawText(t, p.Schema.Value)))
		}
	}
	if rarely(t, "odd query", 8) {
		pairs = append(pairs,
			oneOf(t, "query", "", "=", "&", "foo", "foo=bar", "%zz=1", "a;b=1", "limit", "[]=1", "%00=%00",
				"limit[=1", "after[0]=1", "a=%ff"))
	}
	if pairs == nil {
		return ""
	}
	return "?" + strings.Join(pairs, "&")
}

func drawHeader(t *rapid.T) map[string]string {
	header := map[string]string{}
	if rarely(t, "other type", 10) {
		header["Content-Type"] = oneOf(t, "type", "", "application/json; charset=utf-8", "Application/JSON",
			"application/json;", "application/json; charset", "application/json; charset=\"",
			"application/json, text/plain",
			"text/json", "application/problem+json", "application/xml", "text/plain",
			"application/x-www-form-urlencoded",
			"multipart/form-data; boundary=x", "*/*", ";", "/", "application/ json", "x")
	}
	if rarely(t, "other header", 15) {
		header[oneOf(t, "name", "Accept", "Accept-Encoding", "X-Request-Id", "X-HTTP-Method-Override",
			"Origin", "If-None-Match",
			"Range")] = oneOf(t, "value", "x", "gzip", "DELETE", "*", "a b", strings.Repeat("x", 65))
	}
	return header
}

func drawBody(t *rapid.T, s *openapi3.Schema) string {
	text, err := json.Marshal(drawValue(t, s))
	if err != nil {
		t.Fatal(err)
	}
	body := string(text)
	if !rarely(t, "broken body", 10) {
		return body
	}
	switch oneOf(t, "how", "cut", "more", "mark", "bytes", "spaces", "slashes", "odd", "long") {
	case "cut":
		return body[:rapid.IntRange(0, len(body)-1).Draw(t, "cut")]
	case "more":
		return body + oneOf(t, "more", "x", "{}", ",", "]", "\x00", "\n\n")
	case "mark":
		return "\ufeff" + body
	case "bytes":
		return strings.Replace(body, `"`, "\"\xff", 1)
	case "spaces":
		return " \t\r\n" + body + " "
	case "slashes":
		return strings.ReplaceAll(body, "/", `\/`)
	case "long":
		return body + strings.Repeat(" ", oneOf(t, "size", 64<<10, 1<<20))
	}
	return oneOf(t, "odd body", "", "null", "0", `"x"`, "{", "[", "{}", "[]", "[[]]", "[null]", `{"":1}`,
		`{"id":1,"id":2}`,
		"NaN", "a=b", "<x/>", "-", "1e999", `{"a":`, "{]", strings.Repeat("[", 20000), `"\ud800"`)
}

// drawValue draws a value that is valid, or almost valid, by a schema.
func drawValue(t *rapid.T, s *openapi3.Schema) any {
	if len(s.AllOf) > 0 {
		return drawValue(t, s.AllOf[0].Value)
	}
	if rarely(t, "other value", 15) {
		return drawOddValue(t)
	}
	switch {
	case len(s.Enum) > 0:
		return rapid.SampledFrom(s.Enum).Draw(t, "enum")
	case s.Type.Is(openapi3.TypeObject):
		return drawObject(t, s)
	case s.Type.Is(openapi3.TypeArray):
		items := make([]any, rapid.IntRange(0, 5).Draw(t, "items"))
		for i := range items {
			items[i] = drawValue(t, s.Items.Value)
		}
		return items
	case s.Type.Is(openapi3.TypeInteger):
		return drawInteger(t, s)
	}
	return drawString(t, s)
}

func drawOddValue(t *rapid.T) any {
	return oneOf[any](t, "oddity", nil, true, 0, -1, 1.5, "", "x", "136", []any{}, []any{nil}, map[string]any{},
		map[string]any{"x": 1}, json.Number("136.0"), json.Number("1e2"), json.Number("-0"), json.Number("1e400"),
		json.Number("4294967296"), json.Number("9223372036854775808"), json.Number("0.1e1"),
		json.Number("1"+strings.Repeat("0", 400)))
}

func drawObject(t *rapid.T, s *openapi3.Schema) map[string]any {
	object := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		without := 2
		if slices.Contains(s.Required, name) {
			without = 20
		}
		if !rarely(t, "without "+name, without) {
			object[name] = drawValue(t, s.Properties[name].Value)
		}
	}
	if rarely(t, "more", 20) {
		name := oneOf(t, "name", "", "x", "ID", "Name", "URL", "a.b", "extension_id[0]", strings.Repeat("x", 300), "ы",
			"\x00")
		object[name] = drawOddValue(t)
	}
	return object
}

// drawInteger draws an integer, often an existing id.
func drawInteger(t *rapid.T, s *openapi3.Schema) int64 {
	low, high := int64(0), int64(1<<32-1)
	if s.Min != nil {
		low = int64(*s.Min)
	}
	if s.Max != nil {
		high = int64(*s.Max)
	}
	if rapid.Bool().Draw(t, "known") {
		return oneOf(t, "id", 136, 7, 1, 2, low, high)
	}
	return rapid.Int64Range(low, high).Draw(t, "integer")
}

func drawString(t *rapid.T, s *openapi3.Schema) string {
	switch s.Format {
	case "uri":
		return oneOf(t, "url", exampleURL, exampleURL, "http://example.com:8080/?a=b#c",
			"https://u:p@example.com/%D1%8B", "ftp://x/",
			"", "http://", "http://127.0.0.1/", "http://[::1", "http://[fe80::1%25eth0]/", "https://example.com/%zz",
			"//x",
			"http://a b/", "http://example.com:99999/", "HTTPS://EXAMPLE.COM", "http://ы.рф/", "http://x\u0000/",
			"https://example.com/"+strings.Repeat("x", 3000))
	case "date-time":
		return oneOf(t, "time", exampleTime, "2017-05-30T15:00:00Z", "2017-05-30T18:07:50.123456789+03:00",
			"2017-05-30t15:00:00z",
			"2017-05-30T18:00:00.5+0300", "2016-12-31T23:59:60z",
			"0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999Z", "2017-05-30T15:07:60Z",
			"2017-02-30T00:00:00Z", "2017-05-30T24:00:00Z", "2017-05-30T15:00:00,5Z", "2017-05-30T15:00:00+24:00",
			"2017-05-30", "now", "")
	}
	if s.MaxLength != nil && rarely(t, "long", 15) {
		return strings.Repeat(oneOf(t, "letter", "x", "ы", "😀"), int(*s.MaxLength)+
			rapid.IntRange(0, 1).Draw(t, "too long"))
	}
	return oneOf(t, "string", "000*094@ringme.ru", "+7 (812) 336-42-42", "x", "", " ", "a\nb", "\x7f", "\u0085",
		"\u2028",
		"<&>", `\"'`, "%s%d", "ы😀", "\ufeff", "'; DROP TABLE agents; --", "null")
}
