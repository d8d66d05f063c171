package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
)

// A scenario is a request to a world that was arranged for it, and the answer that it must get. Every request and
// every answer is checked against openapi.yaml besides, and that nothing of a refused request is stored. No answer below
// 500 may log a warning or an error.
type scenario struct {
	name           string
	op             string            // operationId; empty for what the document does not have
	setup          func(*testServer) // what there is before; nil means nothing
	request        string            // method and target, below the API's base path
	header         map[string]string // an empty value takes a header away
	body           string            // JSON, unless a header says otherwise
	chunked        bool              // the body is sent without telling its length
	atRoot         bool              // the target is not below the API's base path
	status         int
	wantBody       string            // the answer's body, its order of fields included; empty: the document says enough
	wantHeader     map[string]string // headers of the answer; an empty value is for one that must not be there
	wantFields     []string          // the fields that errors[] must name, these and no others
	after          func(*testServer) // what must be so after
	kind           agentKind         // of agents; local unless set
	representative bool
	sharedSetup    string // those of a family begin with the same; empty: alone
}

// agentKind is what differs between the kinds of agents.
type agentKind struct {
	agentType   gen.AgentType
	id, event   int64
	field, name string
}

var (
	localKind  = agentKind{gen.AgentTypeLocal, 136, 1, "extension_name", "000*094@ringme.ru"}
	remoteKind = agentKind{gen.AgentTypeRemote, 7, 2, "agent_number", "+7 (812) 336-42-42"}
)

func (k agentKind) other() agentKind {
	if k == localKind {
		return remoteKind
	}
	return localKind
}

// fill puts a kind into texts: {kind} and {Kind} are its word, {id} and {event} its agent and event of withEvents,
// {field} and {name} what its agents are called; {other}, {otherID} and {otherField} are of the other kind.
func (k agentKind) fill(text string) string {
	word, other := string(k.agentType), k.other()
	return strings.NewReplacer(
		"{kind}", word, "{Kind}", strings.ToUpper(word[:1])+word[1:],
		"{id}", strconv.FormatInt(k.id, 10), "{event}", strconv.FormatInt(k.event, 10),
		"{field}", k.field, "{name}", k.name,
		"{other}", string(other.agentType), "{otherID}", strconv.FormatInt(other.id, 10), "{otherField}", other.field,
		"{now}", exampleTime,
	).Replace(text)
}

// forBothKinds makes a scenario of each kind out of every one.
func forBothKinds(scenarios []scenario) (all []scenario) {
	for _, k := range []agentKind{localKind, remoteKind} {
		for _, s := range scenarios {
			s.kind = k
			s.wantFields = slices.Clone(s.wantFields)
			texts := []*string{&s.name, &s.op, &s.request, &s.body, &s.wantBody, &s.sharedSetup}
			for i := range s.wantFields {
				texts = append(texts, &s.wantFields[i])
			}
			for _, text := range texts {
				*text = k.fill(*text)
			}
			s.wantHeader = maps.Clone(s.wantHeader)
			for name, value := range s.wantHeader {
				s.wantHeader[name] = k.fill(value)
			}
			s.name = string(k.agentType) + ": " + s.name
			all = append(all, s)
		}
	}
	return all
}

// scenarioTables are all, by what they are about.
func scenarioTables(c *document) map[string][]scenario {
	tables := map[string][]scenario{
		"client":   clientScenarios(),
		"agent":    forBothKinds(agentScenarios()),
		"event":    forBothKinds(eventScenarios()),
		"state":    forBothKinds(stateScenarios()),
		"secret":   secretScenarios(),
		"status":   forBothKinds(statusScenarios()),
		"statuses": statusesScenarios(),
		"delivery": deliveryScenarios(),
		"replay":   replayScenarios(),
		"feed":     feedScenarios(),
		"change":   forBothKinds(changeScenarios()),
		"sample":   forBothKinds(testDeliveryScenarios()),
		"access":   accessScenarios(),
		"limit":    append(limitScenarios(), forBothKinds(usedUpScenarios())...),
	}
	for _, scenarios := range tables {
		for i, s := range scenarios {
			if s.kind == (agentKind{}) {
				scenarios[i].kind = localKind
			}
		}
	}
	for _, s := range representatives(tables) {
		about := "every " + string(s.kind.agentType)
		tables[about] = append(tables[about], operationScenarios(c, s)...)
	}
	return tables
}

func TestContract(t *testing.T) {
	t.Parallel()
	for about, scenarios := range scenarioTables(testDocument(t)) {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			ts := newTestServer(t)
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { ts.runIn(t, func() { ts.play(s) }) })
			}
		})
	}
}

func (ts *testServer) play(s scenario) {
	ts.Helper()
	ts.arrange(s)
	logged := ts.log.String()
	resp := ts.send(s)
	ts.response = resp
	if news := strings.TrimPrefix(ts.log.String(), logged); s.status < 500 && news != "" {
		ts.Errorf("%s: %d, but the log has a warning: %s", s.request, resp.status, news)
	}
	if resp.operation == nil || resp.operation.id != s.op {
		ts.Errorf("%s is not operation %s", s.request, s.op)
	}
	if resp.status != s.status {
		ts.Fatalf("%s: %d %s, want %d", s.request, resp.status, resp.body, s.status)
	}
	if s.wantBody != "" {
		ts.wantJSON(s.request, s.wantBody, resp.body)
	}
	for name, want := range s.wantHeader {
		if got := resp.header.Get(name); got != want {
			ts.Errorf("%s: the header %s is %q, want %q", s.request, name, got, want)
		}
	}
	ts.wantFieldErrors(s, resp)
	if !mayViolateDocument(s.status) {
		ts.must(ts.checkRequest(resp))
	}
	if s.status >= 400 || strings.HasPrefix(s.request, "GET ") {
		if diff := cmp.Diff(stableRows(ts.rowsBefore), stableRows(ts.dump())); diff != "" {
			ts.Errorf("%s: %d, but the store has changed:\n%s", s.request, s.status, diff)
		}
	}
	if s.after != nil {
		s.after(ts)
	}
}

// mayViolateDocument says whether a request that gets a status need not be one that the document allows.
func mayViolateDocument(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// wantFieldErrors compares the fields that an error names.
func (ts *testServer) wantFieldErrors(s scenario, resp *apiResponse) {
	ts.Helper()
	if s.wantFields == nil {
		return
	}
	var got []string
	for _, e := range errorsOf(ts, resp) {
		got = append(got, e.Field)
		if e.Message == "" {
			ts.Errorf("%s: nothing is said about %s", s.request, e.Field)
		}
	}
	want := slices.Sorted(slices.Values(s.wantFields))
	slices.Sort(got)
	if !slices.Equal(want, got) {
		ts.Errorf("%s names the fields %q, want %q: %s", s.request, got, want, resp.body)
	}
}

// errorsOf are the fields that an error is about.
func errorsOf(ts *testServer, resp *apiResponse) []gen.FieldError {
	ts.Helper()
	var e gen.ErrorResponse
	ts.must(json.Unmarshal(resp.body, &e))
	return e.Errors
}

// Every operation and every status that the document declares for it has a scenario. What a broken store makes of all
// operations, 500 and 503, and a body that does not arrive, 408, are in tests of their own.
func TestContractIsCovered(t *testing.T) {
	t.Parallel()
	c := testDocument(t)
	covered := map[string]bool{}
	for _, scenarios := range scenarioTables(c) {
		for _, s := range scenarios {
			covered[fmt.Sprint(s.op, " ", s.status)] = true
		}
	}
	for _, e := range c.operations {
		for status := range e.spec.Responses.Map() {
			if !slices.Contains([]string{"408", "500", "503"}, status) && !covered[e.id+" "+status] {
				t.Errorf("%s has no scenario of status %s", e.id, status)
			}
		}
	}
}

// A store that does not answer: 503, and the request may be made again.
func TestContractUnavailable(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.close()
	ts.everyOperationFails(http.StatusServiceUnavailable, `{"message":"the store is not available, try again"}`)
}

// Anything that nobody foresaw, here a database without tables: 500, and not a word about what it was.
func TestContractInternalError(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	for _, table := range ts.tables(ts.db) {
		ts.exec("DROP TABLE " + table)
	}
	ts.everyOperationFails(http.StatusInternalServerError, `{"message":"internal error"}`)
}

// everyOperationFails sends a good request of every operation to a store that is broken.
func (ts *testServer) everyOperationFails(status int, want string) {
	ts.Helper()
	good := representatives(scenarioTables(ts.document))
	if len(good) != len(ts.operations) {
		ts.Errorf("%d of %d operations have a good request", len(good), len(ts.operations))
	}
	for _, s := range good {
		resp := ts.send(s)
		if resp.status != status {
			ts.Errorf("%s: %d %s, want %d", s.request, resp.status, resp.body, status)
			continue
		}
		ts.wantJSON(s.request, want, resp.body)
		if retry := resp.header.Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable) {
			ts.Errorf("%s: %d with Retry-After %q", s.request, status, retry)
		}
	}
}

// representatives are the first scenario of each operation that succeeds.
func representatives(tables map[string][]scenario) (good []scenario) {
	seen := map[string]bool{}
	for _, about := range []string{
		"client", "agent", "event", "state", "secret", "status", "statuses", "delivery", "replay", "feed", "change", "sample", "access", "limit",
	} {
		for _, s := range tables[about] {
			if s.status < 300 && !seen[s.op] {
				seen[s.op] = true
				good = append(good, s)
			}
		}
	}
	return good
}

func (s scenario) asRepresentative() scenario { s.representative = true; return s }
