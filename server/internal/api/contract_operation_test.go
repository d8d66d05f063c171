package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// operationScenarios returns the scenarios of every operation, derived from its representative.
func operationScenarios(d *document, s scenario) (all []scenario) {
	o := d.operationByID(s.op)
	s.name, s.representative, s.sharedSetup = s.op, false, s.op
	s.after, s.wantHeader, s.header = nil, nil, nil
	if s.op == "requestToken" {
		return longHeads(s) // everything else follows OAuth
	}
	all = slices.Concat(unknownIDs(d, o, s), invalidIDs(d, o, s), operationAccessScenarios(o, s), longHeads(s))
	if o.jsonBody() != nil {
		all = append(append(all, invalidBodies(s)...), bodyForms(s)...)
	} else {
		all = append(all, unexpectedBodies(s)...)
	}
	if o.spec.Parameters.GetByInAndName(openapi3.ParameterInHeader, headerIdempotencyKey) != nil {
		all = append(all, idempotencyScenarios(s)...)
	}
	return append(all, pathForms(s)...)
}

func (c *document) operationByID(id string) *apiOperation {
	return c.operations[slices.IndexFunc(c.operations, func(e *apiOperation) bool { return e.id == id })]
}

// variant returns a changed scenario. It appends a name.
func (s scenario) variant(name string, change func(*scenario)) scenario {
	s.name += ": " + name
	change(&s)
	return s
}

// refused returns a changed scenario that the server must refuse with a status and the invalid fields.
func (s scenario) refused(name string, status int, wrong []string, change func(*scenario)) scenario {
	s.status, s.wantBody, s.wantFields = status, "", wrong
	return s.variant(name, change)
}

// pathForms returns the scenario with other forms of its path. They succeed as well.
func pathForms(s scenario) []scenario {
	path, query, _ := strings.Cut(s.request, "?")
	if query != "" {
		query = "&" + query
	}
	other := path + "/"
	if strings.HasSuffix(path, "/") {
		other = strings.TrimSuffix(path, "/")
	}
	all := []scenario{
		s.variant("the other form of the path", func(s *scenario) { s.request = other }),
		s.variant("an unknown query parameter", func(s *scenario) { s.request = path + "?a[b]=%5B&c" + query }),
	}
	if strings.Contains(path, "/client/12") &&
		!slices.Contains([]string{"putClient", "deleteClient", "putLimits", s.kind.fill("erase{Kind}Agent")}, s.op) {
		all = append(all, s.variant("with @me", func(s *scenario) {
			s.header = allToken.header()
			s.request = strings.Replace(s.request, "/client/12", "/client/%40me", 1)
		}))
	}
	return all
}

// longHeads returns requests whose URL is one byte too long, or whose head has one field too many.
func longHeads(s scenario) []scenario {
	path, _, _ := strings.Cut(s.request, "?")
	fields := map[string]string{}
	for i := range maxHeaderFields {
		fields[fmt.Sprint("X-Field-", i)] = "x"
	}
	return []scenario{
		s.refused("a long URL", http.StatusRequestURITooLong, nil, func(s *scenario) {
			s.request = path + "?" + strings.Repeat("x", maxURL)
		}),
		s.refused("too many fields", http.StatusRequestHeaderFieldsTooLarge, nil, func(s *scenario) {
			s.header = fields
		}),
	}
}

// unknownIDs returns requests with ids that do not exist.
func unknownIDs(c *document, e *apiOperation, s scenario) (all []scenario) {
	unknown := func(param, id, want string) {
		want = s.kind.fill(want)
		all = append(all, s.variant("unknown "+param+" "+id, func(s *scenario) {
			s.request, s.status, s.wantBody = e.withParam(c, s.request, param, id), http.StatusNotFound, want
		}))
	}
	has := func(param string) bool { return strings.Contains(e.path, "{"+param+"}") }
	if has("client_id") && s.op != "putClient" {
		unknown("client_id", "13", `{"message":"there is no client 13","status":"client_not_found"}`)
	}
	if has("agent_id") && s.op != s.kind.fill("put{Kind}Agent") {
		unknown("agent_id", "4294967295",
			`{"message":"there is no {kind} agent 4294967295 of client 12","status":"agent_not_found"}`)
	}
	if has("event_id") {
		unknown("event_id", "4294967295",
			`{"message":"there is no event 4294967295 of {kind} agent {id} of client 12","status":"event_not_found"}`)
	}
	for _, noun := range []string{"delivery", "replay"} {
		if has(noun + "_id") {
			unknown(noun+"_id", "9223372036854775807", `{"message":"there is no `+noun+
				` 9223372036854775807 of client 12","status":"`+noun+`_not_found"}`)
		}
	}
	return all
}

// invalidIDs returns requests with invalid ids.
func invalidIDs(c *document, e *apiOperation, s scenario) (all []scenario) {
	for param, ids := range map[string][]string{
		"client_id": {"a b", "ы", "1/2", "@you", "%", strings.Repeat("x", 65)},
		"agent_id":  {"0", "-1", "4294967296", "99999999999999999999", "1.5", "x", "136x", " 136", "1e2"},
		"event_id":  {"0", "-1", "4294967296", "99999999999999999999", "1.5", "x", "1x", " 1", "0x1"},

		"delivery_id": {"0", "-1", "9223372036854775808", "99999999999999999999", "1.5", "x", "1x", " 1", "0x1"},
		"application_id": {
			"0", strings.Repeat("0", 31), strings.Repeat("A", 32), strings.Repeat("x", 32), strings.Repeat("0", 33),
			"@me",
		},

		"replay_id": {"0", "-1", "9223372036854775808", "99999999999999999999", "1.5", "x", "1x", " 1", "0x1"},
	} {
		for _, id := range ids {
			if strings.Contains(e.path, "{"+param+"}") {
				all = append(all,
					s.refused("invalid "+param+" "+id, http.StatusBadRequest, []string{param}, func(s *scenario) {
						s.request = e.withParam(c, s.request, param, id)
					}))
			}
		}
	}
	return all
}

// withParam returns the request with another value of a path parameter.
func (e *apiOperation) withParam(c *document, request, param, value string) string {
	method, target, _ := strings.Cut(request, " ")
	path, query, ok := strings.Cut(target, "?")
	segments := strings.Split(path, "/")
	segments[slices.Index(strings.Split(e.path, "/"), "{"+param+"}")] = url.PathEscape(value)
	path = strings.Join(segments, "/")
	if ok {
		path += "?" + query
	}
	return method + " " + path
}

// bodyForms returns the scenario with other forms of its body. They succeed as well.
func bodyForms(s scenario) (all []scenario) {
	for _, typ := range []string{"application/json; charset=utf-8", "APPLICATION/json ;charset=\"UTF-8\""} {
		all = append(all,
			s.variant("type "+typ, func(s *scenario) { s.header = map[string]string{"Content-Type": typ} }))
	}
	return append(all,
		s.variant("a body of unknown length", func(s *scenario) { s.chunked = true }),
		s.variant("a body with spaces around it", func(s *scenario) { s.body = "\r\n\t " + s.body + "\n" }))
}

const mebibyte = 1 << 20

// maxBody is the maximum length of the scenario's body.
func (s scenario) maxBody() int {
	if strings.HasSuffix(strings.TrimSuffix(s.request, "/"), "/12/status") {
		return mebibyte
	}
	return 64 << 10
}

func invalidBodies(s scenario) (all []scenario) {
	for _, typ := range []string{
		"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "json",
		"*/*",
	} {
		all = append(all, s.refused("type "+typ, http.StatusUnsupportedMediaType, nil, func(s *scenario) {
			s.header = map[string]string{"Content-Type": typ}
		}))
	}
	padded := s.body + strings.Repeat(" ", s.maxBody()+1-len(s.body))
	all = append(all,
		s.variant("the longest body", func(s *scenario) { s.body = padded[:s.maxBody()] }),
		s.refused("a longer body", http.StatusRequestEntityTooLarge, nil, func(s *scenario) { s.body = padded }),
		s.refused("a longer body, of unknown length", http.StatusRequestEntityTooLarge, nil, func(s *scenario) {
			s.body, s.chunked = padded, true
		}))
	for name, compressed := range map[string]scenario{
		"declared gzip": {
			body: s.body, header: map[string]string{"Content-Type": "application/json", "Content-Encoding": "gzip"},
		},
		"declared br": {
			body: s.body, header: map[string]string{"Content-Type": "application/json", "Content-Encoding": "br"},
		},
		"undeclared gzip": {body: "\x1f\x8b\x08\x00", header: map[string]string{"Content-Type": "application/json"}},
	} {
		all = append(all, s.refused(name, http.StatusUnsupportedMediaType, nil, func(s *scenario) {
			s.body, s.header = compressed.body, compressed.header
			s.wantBody = `{"message":"the body must not be compressed; the only Content-Encoding is identity"}`
			s.wantHeader = map[string]string{"Accept-Encoding": "identity"}
		}))
	}
	for name, message := range map[string]string{
		"\ufeff" + s.body:    "the body must not begin with a byte order mark",
		"\xff\xfe{\x00}\x00": "the body must be UTF-8, not UTF-16",
		"\xfe\xff\x00{\x00}": "the body must be UTF-8, not UTF-16",
	} {
		all = append(all, s.refused(fmt.Sprintf("%.8q", name), http.StatusBadRequest, nil, func(s *scenario) {
			s.body, s.wantBody = name, `{"message":"`+message+`"}`
			s.header = map[string]string{"Content-Type": "application/json"}
		}))
	}
	for name, body := range map[string]string{
		"no body":                      "",
		"null":                         "null",
		"a string":                     `"x"`,
		"not JSON":                     "agent_status=available",
		"JSON that ends early":         s.body[:len(s.body)-1],
		"JSON and more text":           s.body + "{}",
		"JSON with a trailing comma":   s.body[:len(s.body)-1] + "," + s.body[len(s.body)-1:],
		"not UTF-8":                    "{\"\xff\":1}",
		"JSON nested too deeply":       strings.Repeat("[", mebibyte/2),
		"deeply nested JSON":           strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"an array of arrays":           "[[]]",
		"an unknown field in an array": `[{"":{}}]`,
		"a repeated field":             `{"name":"x","name":"x","agent_status":1,"agent_status":1}`,
	} {
		all = append(all, s.refused(name, http.StatusBadRequest, nil, func(s *scenario) {
			s.body = body
			s.header = map[string]string{"Content-Type": "application/json"}
		}))
	}
	return all
}

// unexpectedBodies returns the scenario with a body that its operation does not have. It succeeds as well: some clients
// send a body with a GET or a DELETE.
func unexpectedBodies(s scenario) []scenario {
	return []scenario{
		s.variant("with a type and an empty body", func(s *scenario) {
			s.header = map[string]string{"Content-Type": "application/json", "Content-Length": "0"}
		}),
		s.variant("with a JSON body", func(s *scenario) { s.body = `{"agent_id":1}` }),
		s.variant("with a malformed body", func(s *scenario) { s.body = `{"` }),
		s.variant("with a form", func(s *scenario) {
			s.body, s.header = "a=b", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
		}),
		s.variant("with a body of unknown length", func(s *scenario) { s.body, s.chunked = "x", true }),
		s.variant("with a long body", func(s *scenario) { s.body = strings.Repeat("x", mebibyte+1) }),
	}
}

// The server answers 405 with the header Allow to an unsupported method, and 404 to an unknown path.
func TestContractRefusesOtherMethodsAndPaths(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	before := ts.dump()
	for path, item := range ts.spec.Paths.Map() {
		path = strings.NewReplacer("{client_id}", "12", "{agent_id}", "136", "{event_id}", "1", "{delivery_id}", "1",
			"{replay_id}", "1").Replace(path)
		for _, form := range []string{strings.TrimSuffix(path, "/"), strings.TrimSuffix(path, "/") + "/"} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "PURGE"} {
				if item.Operations()[method] == nil && ts.operationAt(method, &url.URL{Path: ts.base + form}) == nil {
					ts.wantNotAllowed(method, form, item.Operations())
				}
			}
		}
	}
	for _, path := range []string{"", "/", "/clients/", "/client/12/agent/", "/client/12/agent/x/136", "/client/12//"} {
		if resp := ts.send(scenario{request: "GET " + path}); resp.status != http.StatusNotFound {
			t.Errorf("GET %s: %d %s", path, resp.status, resp.body)
		}
	}
	if !slices.Equal(before, ts.dump()) {
		t.Error("the store has changed")
	}
}

func (ts *testServer) wantNotAllowed(method, path string, operations map[string]*openapi3.Operation) {
	ts.Helper()
	resp := ts.send(scenario{request: method + " " + path})
	allowed := strings.Split(strings.ReplaceAll(resp.header.Get("Allow"), " ", ""), ",")
	allowed = slices.DeleteFunc(allowed, func(method string) bool { return method == http.MethodOptions })
	slices.Sort(allowed)
	want := slices.Sorted(maps.Keys(operations))
	if resp.status != http.StatusMethodNotAllowed || !slices.Equal(allowed, want) {
		ts.Errorf("%s %s: %d %s, allowed are %q, want %q", method, path, resp.status, resp.body, allowed, want)
	}
}

// The server accepts each example of a request in openapi.yaml, and each example is valid.
func TestContractAcceptsItsExamples(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	if err := ts.spec.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	for _, e := range ts.operations {
		for _, body := range e.examples() {
			ts.wantAccepted(e, body)
		}
	}
}

func (e *apiOperation) examples() (all []any) {
	if e.jsonBody() == nil {
		return nil
	}
	if e.jsonBody().Example != nil {
		all = append(all, e.jsonBody().Example)
	}
	for _, example := range e.jsonBody().Examples {
		all = append(all, example.Value.Value)
	}
	return all
}

// wantAccepted sends a body to an operation. The objects that it needs exist; the object that it creates does not.
func (ts *testServer) wantAccepted(e *apiOperation, body any) {
	ts.Helper()
	s := scenario{setup: (*testServer).withEvents, kind: localKind}
	if strings.Contains(e.path, "/remote/") {
		s.kind = remoteKind
	}
	if e.id == s.kind.fill("create{Kind}Agent") {
		s.setup = (*testServer).withClient
	}
	ts.arrange(s)
	ts.setTime("2017-05-30T18:00:00Z") // the latest time in the examples
	text, err := json.Marshal(body)
	ts.must(err)
	path := strings.NewReplacer("{client_id}", "12", "{agent_id}", "{id}", "{event_id}", "{event}").Replace(e.path)
	resp := ts.send(scenario{request: e.method + " " + s.kind.fill(path), body: string(text)})
	if resp.status >= 300 {
		ts.Errorf("%s %s: %d %s", e.id, text, resp.status, resp.body)
	}
	ts.must(ts.checkRequest(resp))
}
