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

// Random requests made of the document, right and wrong ones: never a 5xx, always a status that the operation
// declares with a body as declared, never a word from inside, and what the document forbids is refused. In a failure
// rapid prints the seed and the shortest sequence of requests that it found. More of it: -rapid.checks=10000.
func TestContractFuzz(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	close(w.stopping) // nothing comes while a request waits
	rapid.Check(t, func(t *rapid.T) {
		w.arrange(scenario{given: (*world).withReplays, kind: ofLocal})
		for range rapid.IntRange(20, 40).Draw(t, "requests") {
			s := w.anyRequest(t)
			a, err := w.try(s)
			if err != nil {
				t.Fatalf("%s: %v", s.request, err)
			}
			if err := w.check(a); err != nil {
				t.Fatalf("%s %.200q: %v\n%d %s", s.request, s.body, err, a.status, a.body)
			}
			w.judge(t, s, a)
		}
	})
}

// judge compares a status with what the document says of the request.
func (w *world) judge(t *rapid.T, s scenario, a *reply) {
	if a.status >= 500 {
		t.Fatalf("%s %.200q: %d %s", s.request, s.body, a.status, a.body)
	}
	if a.endpoint == nil {
		return
	}
	forbidden := w.checkRequest(a)
	if forbidden != nil && a.status < 300 {
		t.Fatalf("%s %.200q: %d %s, but the document forbids it: %v", s.request, s.body, a.status, a.body, forbidden)
	}
	typed, sized := a.status != http.StatusUnsupportedMediaType, a.status != http.StatusRequestEntityTooLarge
	if forbidden == nil && !typed || !sized && len(s.body) <= mebibyte {
		t.Fatalf("%s %.200q: %d %s, but the document allows it", s.request, s.body, a.status, a.body)
	}
}

// one draws one of several values.
func one[V any](t *rapid.T, label string, values ...V) V {
	return rapid.SampledFrom(values).Draw(t, label)
}

// seldom is true once in a while.
func seldom(t *rapid.T, label string, in int) bool {
	return rapid.IntRange(1, in).Draw(t, label) == in
}

func (w *world) anyRequest(t *rapid.T) scenario {
	e := w.operation(one(t, "operation", w.ids()...))
	method := e.method
	if seldom(t, "other method", 30) {
		method = one(t, "method", "GET", "POST", "PUT", "DELETE", "PATCH", "HEADER")
	}
	s := scenario{request: method + " " + anyPath(t, e) + anyQuery(t, e), header: anyHeader(t)}
	if media := e.media(); media != nil {
		s.body = anyBody(t, media.Schema.Value)
	} else if seldom(t, "needless body", 10) {
		s.body = "{}"
	}
	s.chunked = s.body != "" && seldom(t, "chunked", 10)
	return s
}

func (c *document) ids() (all []string) {
	for _, e := range c.endpoints {
		all = append(all, e.id)
	}
	return all
}

// parameters are those of an operation and of its path.
func (e *endpoint) parameters(in string) (all []*openapi3.Parameter) {
	for _, list := range []openapi3.Parameters{e.written.PathItem.Parameters, e.operation.Parameters} {
		for _, p := range list {
			if p.Value.In == in {
				all = append(all, p.Value)
			}
		}
	}
	return all
}

func anyPath(t *rapid.T, e *endpoint) string {
	path := e.path
	for _, p := range e.parameters("path") {
		value := one(t, p.Name, known[p.Name]...)
		if seldom(t, "other "+p.Name, 6) {
			value = anyText(t, p.Schema.Value)
		}
		path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(value), 1)
	}
	if seldom(t, "other form", 5) {
		return strings.TrimSuffix(path, "/") + one(t, "slashes", "", "/", "//")
	}
	return path
}

// known are values that exist.
var known = map[string][]string{
	"client_id": {"12", "12", "12", "@me"}, "agent_id": {"136", "7"}, "event_id": {"1", "2", "3"},
	"delivery_id": {"1", "2", "3", "4", "5", "6"}, "replay_id": {"1", "2", "3"},
	"application_id": {asAll.id(), asStranger.id(), asOperator.id()},
}

// anyText is the text of a parameter, seldom of its schema.
func anyText(t *rapid.T, s *openapi3.Schema) string {
	switch {
	case len(s.AllOf) > 0:
		return anyText(t, s.AllOf[0].Value)
	case len(s.Enum) > 0 && rapid.Bool().Draw(t, "right"):
		text, _ := rapid.SampledFrom(s.Enum).Draw(t, "enum").(string)
		return text
	case s.Format == "date-time" && rapid.Bool().Draw(t, "right"):
		return anyString(t, s)
	case s.Type.Is(openapi3.TypeArray):
		return anyText(t, s.Items.Value)
	case s.Type.Is(openapi3.TypeInteger) && rapid.Bool().Draw(t, "right"):
		number, _ := json.Marshal(anyInteger(t, s))
		return string(number)
	case s.Pattern != "" && rapid.Bool().Draw(t, "right"):
		return rapid.StringMatching(s.Pattern).Draw(t, "text")
	}
	return one(t, "odd text", "", "0", "-1", "4294967296", "99999999999999999999", "1e2", "1.0", "0x1", "+7", "007",
		" 7", "7 ", "null", "true", "x", ".", "..", "a/b", "%", "%2F", "@you", "ы", "😀", "\x00", "\n", "\xff", "[]", "5,6",
		"{}", "'", "\"", strings.Repeat("9", 300), strings.Repeat("x", 65))
}

func anyQuery(t *rapid.T, e *endpoint) string {
	var pairs []string
	for _, p := range e.parameters("query") {
		for seldom(t, "with "+p.Name, 3) {
			name := one(t, "form", p.Name, p.Name, p.Name+"[]", p.Name+"[0]", p.Name+"%5B1%5D", p.Name+"[x]", p.Name+"[")
			pairs = append(pairs, name+"="+url.QueryEscape(anyText(t, p.Schema.Value)))
		}
	}
	if seldom(t, "odd query", 8) {
		pairs = append(pairs, one(t, "query", "", "=", "&", "foo", "foo=bar", "%zz=1", "a;b=1", "limit", "[]=1", "%00=%00",
			"limit[=1", "after[0]=1", "a=%ff"))
	}
	if pairs == nil {
		return ""
	}
	return "?" + strings.Join(pairs, "&")
}

func anyHeader(t *rapid.T) map[string]string {
	header := map[string]string{}
	if seldom(t, "other type", 10) {
		header["Content-Type"] = one(t, "type", "", "application/json; charset=utf-8", "Application/JSON",
			"application/json;", "application/json; charset", "application/json; charset=\"", "application/json, text/plain",
			"text/json", "application/problem+json", "application/xml", "text/plain", "application/x-www-form-urlencoded",
			"multipart/form-data; boundary=x", "*/*", ";", "/", "application/ json", "x")
	}
	if seldom(t, "other header", 15) {
		header[one(t, "name", "Accept", "Accept-Encoding", "X-Request-Id", "X-HTTP-Method-Override",
			"Origin", "If-None-Match", "Range")] = one(t, "value", "x", "gzip", "DELETE", "*", "a b", strings.Repeat("x", 65))
	}
	return header
}

func anyBody(t *rapid.T, s *openapi3.Schema) string {
	text, err := json.Marshal(anyValue(t, s))
	if err != nil {
		t.Fatal(err)
	}
	body := string(text)
	if !seldom(t, "broken body", 10) {
		return body
	}
	switch one(t, "how", "cut", "more", "mark", "bytes", "spaces", "slashes", "odd", "long") {
	case "cut":
		return body[:rapid.IntRange(0, len(body)-1).Draw(t, "cut")]
	case "more":
		return body + one(t, "more", "x", "{}", ",", "]", "\x00", "\n\n")
	case "mark":
		return "\ufeff" + body
	case "bytes":
		return strings.Replace(body, `"`, "\"\xff", 1)
	case "spaces":
		return " \t\r\n" + body + " "
	case "slashes":
		return strings.ReplaceAll(body, "/", `\/`)
	case "long":
		return body + strings.Repeat(" ", mebibyte)
	}
	return one(t, "odd body", "", "null", "0", `"x"`, "{", "[", "{}", "[]", "[[]]", "[null]", `{"":1}`, `{"id":1,"id":2}`,
		"NaN", "a=b", "<x/>", "-", "1e999", `{"a":`, "{]", strings.Repeat("[", 20000), `"\ud800"`)
}

// anyValue is a value of a schema, or almost.
func anyValue(t *rapid.T, s *openapi3.Schema) any {
	if len(s.AllOf) > 0 {
		return anyValue(t, s.AllOf[0].Value)
	}
	if seldom(t, "other value", 15) {
		return anyOddity(t)
	}
	switch {
	case len(s.Enum) > 0:
		return rapid.SampledFrom(s.Enum).Draw(t, "enum")
	case s.Type.Is(openapi3.TypeObject):
		return anyObject(t, s)
	case s.Type.Is(openapi3.TypeArray):
		items := make([]any, rapid.IntRange(0, 5).Draw(t, "items"))
		for i := range items {
			items[i] = anyValue(t, s.Items.Value)
		}
		return items
	case s.Type.Is(openapi3.TypeInteger):
		return anyInteger(t, s)
	}
	return anyString(t, s)
}

func anyOddity(t *rapid.T) any {
	return one[any](t, "oddity", nil, true, 0, -1, 1.5, "", "x", "136", []any{}, []any{nil}, map[string]any{},
		map[string]any{"x": 1}, json.Number("136.0"), json.Number("1e2"), json.Number("-0"), json.Number("1e400"),
		json.Number("4294967296"), json.Number("9223372036854775808"), json.Number("0.1e1"),
		json.Number("1"+strings.Repeat("0", 400)))
}

func anyObject(t *rapid.T, s *openapi3.Schema) map[string]any {
	object := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		without := 2
		if slices.Contains(s.Required, name) {
			without = 20
		}
		if !seldom(t, "without "+name, without) {
			object[name] = anyValue(t, s.Properties[name].Value)
		}
	}
	if seldom(t, "more", 20) {
		name := one(t, "name", "", "x", "ID", "Name", "URL", "a.b", "extension_id[0]", strings.Repeat("x", 300), "ы", "\x00")
		object[name] = anyOddity(t)
	}
	return object
}

// anyInteger is often one that exists.
func anyInteger(t *rapid.T, s *openapi3.Schema) int64 {
	low, high := int64(0), int64(1<<32-1)
	if s.Min != nil {
		low = int64(*s.Min)
	}
	if s.Max != nil {
		high = int64(*s.Max)
	}
	if rapid.Bool().Draw(t, "known") {
		return one(t, "id", 136, 7, 1, 2, low, high)
	}
	return rapid.Int64Range(low, high).Draw(t, "integer")
}

func anyString(t *rapid.T, s *openapi3.Schema) string {
	switch s.Format {
	case "uri":
		return one(t, "url", seedURL, seedURL, "http://example.com:8080/?a=b#c", "https://u:p@example.com/%D1%8B", "ftp://x/",
			"", "http://", "http://127.0.0.1/", "http://[::1", "http://[fe80::1%25eth0]/", "https://example.com/%zz", "//x",
			"http://a b/", "http://example.com:99999/", "HTTPS://EXAMPLE.COM", "http://ы.рф/", "http://x\u0000/",
			"https://example.com/"+strings.Repeat("x", 3000))
	case "date-time":
		return one(t, "time", seedTime, "2017-05-30T15:00:00Z", "2017-05-30T18:07:50.123456789+03:00", "2017-05-30t15:00:00z",
			"2017-05-30T18:00:00.5+0300", "2016-12-31T23:59:60z",
			"0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999Z", "2017-05-30T15:07:60Z",
			"2017-02-30T00:00:00Z", "2017-05-30T24:00:00Z", "2017-05-30T15:00:00,5Z", "2017-05-30T15:00:00+24:00",
			"2017-05-30", "now", "")
	}
	if s.MaxLength != nil && seldom(t, "long", 15) {
		return strings.Repeat(one(t, "letter", "x", "ы", "😀"), int(*s.MaxLength)+rapid.IntRange(0, 1).Draw(t, "too long"))
	}
	return one(t, "string", "000*094@ringme.ru", "+7 (812) 336-42-42", "x", "", " ", "a\nb", "\x7f", "\u0085", "\u2028",
		"<&>", `\"'`, "%s%d", "ы😀", "\ufeff", "'; DROP TABLE agents; --", "null")
}
