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

// The contract tests check the server against openapi.yaml. Each scenario is a request to a real server with a real
// store, and its expected answer.
//
// To add a scenario, put it into the table of its operation, in contract_NOUN_test.go:
//
//	{
//		name: "update", op: "putClient", setup: (*testServer).withClient,
//		request: "PUT /client/12", body: `{"name":"Ringme 2"}`, status: 200,
//		wantBody: `{"id":"12","name":"Ringme 2","blocked":false}`,
//	}
//
// and run it, on SQLite and on PostgreSQL:
//
//	go test ./server/internal/api -run 'TestContract/client/update$'
//
// The tests also check every answer against openapi.yaml, and that a GET or a refused request changes nothing in the
// store. So wantBody is needed only for values that the document does not have. A new operation needs a scenario for
// each status that openapi.yaml declares, one of them with representative: true. The tables "every local" and "every
// remote" are derived from the representatives: unknown and invalid ids, tokens of every access level, malformed
// bodies.
//
// The setups create the following, each in addition to the setup before. forBothKinds fills in {kind}, {id} and so on:
//
//	withClient     client 12, "Ringme"
//	withAgents     its agents: local 136 and remote 7
//	withEvents     event 1 of local 136 and event 2 of remote 7: GET exampleURL at a login
//	withLogin      delivery 1: the agent of the scenario's kind has logged in. It stays pending: no dispatcher runs
//	withLog        a delivery in each state, 1 to 6, and the status changes 1 to 6 (contract_log_test.go)
//	withNeighbour  client 13 with delivery 7, in addition to withLog
//	withReplays    replays 1 to 4 of withLog, the first two finished
//
// The clock shows exampleTime until setTime changes it. Requests have the operator's token, unless a header has another
// one (contract_access_test.go).

// scenario is a request and its expected effects.
type scenario struct {
	name           string
	op             string            // operationId; empty if openapi.yaml has no such operation
	kind           agentKind         // kind of its agents; local unless forBothKinds sets it
	representative bool              // succeeds, and represents its operation in tests of all operations
	setup          func(*testServer) // fills the store; nil leaves it empty
	// consecutive scenarios with the same name have the same setup, which runs once for them
	sharedSetup string

	request string            // method and target, relative to the API's base path
	atRoot  bool              // the target is absolute
	header  map[string]string // an empty value removes a default header
	body    string            // JSON, unless header has another Content-Type
	chunked bool              // send the body without its length

	status     int
	wantBody   string            // JSON, compared including the order of fields; empty checks only the schema
	wantHeader map[string]string // an empty value requires that the header is absent
	wantFields []string          // fields of errors[], in any order; nil checks nothing
	after      func(*testServer) // further checks
}

// asRepresentative makes a scenario that a function returns a representative.
func (s scenario) asRepresentative() scenario {
	s.representative = true
	return s
}

// agentKind has the differences between local and remote agents.
type agentKind struct {
	agentType   gen.AgentType
	id, event   int64  // ids in withEvents
	field, name string // field of the agent's name, and its value
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

// fill replaces the placeholders of a text: {kind} and {Kind} by "local" and "Local", {id} and {event} by the ids of
// withEvents, {field} and {name} by the field of an agent's name and its value. {other}, {otherID} and {otherField} are
// those of the other kind, and {now} is exampleTime.
func (k agentKind) fill(text string) string {
	kind, other := string(k.agentType), k.other()
	return strings.NewReplacer(
		"{kind}", kind, "{Kind}", strings.ToUpper(kind[:1])+kind[1:],
		"{id}", strconv.FormatInt(k.id, 10), "{event}", strconv.FormatInt(k.event, 10),
		"{field}", k.field, "{name}", k.name,
		"{other}", string(other.agentType), "{otherID}", strconv.FormatInt(other.id, 10), "{otherField}", other.field,
		"{now}", exampleTime,
	).Replace(text)
}

// forBothKinds fills each scenario for local and for remote agents.
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

// table has the scenarios of one subject. They share a server.
type table struct {
	name      string
	scenarios []scenario
}

// scenarioTables returns all tables. The tables of all operations are derived from the representatives in the others.
func scenarioTables(d *document) []table {
	tables := []table{
		{"client", clientScenarios()},
		{"agent", forBothKinds(agentScenarios())},
		{"event", forBothKinds(eventScenarios())},
		{"state", forBothKinds(stateScenarios())},
		{"secret", secretScenarios()},
		{"status", forBothKinds(statusScenarios())},
		{"statuses", statusesScenarios()},
		{"delivery", deliveryScenarios()},
		{"replay", replayScenarios()},
		{"feed", feedScenarios()},
		{"change", forBothKinds(changeScenarios())},
		{"test", forBothKinds(testDeliveryScenarios())},
		{"access", accessScenarios()},
		{"limit", append(limitScenarios(), forBothKinds(exhaustedLimitScenarios())...)},
	}
	for _, t := range tables {
		for i, s := range t.scenarios {
			if s.kind == (agentKind{}) {
				t.scenarios[i].kind = localKind
			}
		}
	}
	local, remote := table{name: "every local"}, table{name: "every remote"}
	for _, s := range representatives(tables) {
		every := &local
		if s.kind == remoteKind {
			every = &remote
		}
		every.scenarios = append(every.scenarios, operationScenarios(d, s)...)
	}
	return append(tables, local, remote)
}

// representatives returns the representative of each operation.
func representatives(tables []table) (all []scenario) {
	for _, t := range tables {
		for _, s := range t.scenarios {
			if s.representative {
				all = append(all, s)
			}
		}
	}
	return all
}

func TestContract(t *testing.T) {
	t.Parallel()
	for _, table := range scenarioTables(testDocument(t)) {
		t.Run(table.name, func(t *testing.T) {
			t.Parallel()
			ts := newTestServer(t)
			for _, s := range table.scenarios {
				t.Run(s.name, func(t *testing.T) { ts.runIn(t, func() { ts.runScenario(s) }) })
			}
		})
	}
}

// runScenario sends a scenario's request, and checks all its expected effects.
func (ts *testServer) runScenario(s scenario) {
	ts.Helper()
	ts.arrange(s)
	logged := ts.log.String()
	resp := ts.send(s)
	ts.response = resp
	if warning := strings.TrimPrefix(ts.log.String(), logged); s.status < 500 && warning != "" {
		ts.Errorf("%s: %d, but the log has a warning: %s", s.request, resp.status, warning)
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

// mayViolateDocument reports whether openapi.yaml may forbid a request that is answered with a status.
func mayViolateDocument(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusRequestURITooLong,
		http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// wantFieldErrors checks which fields an error names.
func (ts *testServer) wantFieldErrors(s scenario, resp *apiResponse) {
	ts.Helper()
	if s.wantFields == nil {
		return
	}
	var got []string
	for _, e := range errorsOf(ts, resp) {
		got = append(got, e.Field)
		if e.Message == "" {
			ts.Errorf("%s: the error of %s has no message", s.request, e.Field)
		}
	}
	want := slices.Sorted(slices.Values(s.wantFields))
	slices.Sort(got)
	if !slices.Equal(want, got) {
		ts.Errorf("%s names the fields %q, want %q: %s", s.request, got, want, resp.body)
	}
}

// errorsOf returns the field errors in an answer.
func errorsOf(ts *testServer, resp *apiResponse) []gen.FieldError {
	ts.Helper()
	var e gen.ErrorResponse
	ts.must(json.Unmarshal(resp.body, &e))
	return e.Errors
}

// Every operation has one representative, which succeeds, and a scenario for every status that openapi.yaml declares.
// Separate tests cover 500 and 503, which need a broken store, and 408, which needs an incomplete body.
func TestContractIsCovered(t *testing.T) {
	t.Parallel()
	d := testDocument(t)
	tables := scenarioTables(d)
	covered, represented := map[string]bool{}, map[string]int{}
	for _, table := range tables {
		for _, s := range table.scenarios {
			covered[fmt.Sprint(s.op, " ", s.status)] = true
		}
	}
	for _, s := range representatives(tables) {
		if represented[s.op]++; s.status >= 300 {
			t.Errorf("the representative of %s has status %d", s.op, s.status)
		}
	}
	for _, o := range d.operations {
		if represented[o.id] != 1 {
			t.Errorf("%s has %d representatives, want 1", o.id, represented[o.id])
		}
		for status := range o.spec.Responses.Map() {
			if !slices.Contains([]string{"408", "500", "503"}, status) && !covered[o.id+" "+status] {
				t.Errorf("%s has no scenario of status %s", o.id, status)
			}
		}
	}
}

// If the store cannot be read, every operation answers 503 with Retry-After.
func TestContractUnavailableStoreGets503(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.close()
	ts.everyOperationFails(http.StatusServiceUnavailable, `{"message":"the store is not available, try again"}`)
}

// An unexpected error, here of a database without tables, is a 500 that does not reveal the cause.
func TestContractInternalErrorHidesItsCause(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	for _, table := range ts.tables(ts.db) {
		ts.exec("DROP TABLE " + table)
	}
	ts.everyOperationFails(http.StatusInternalServerError, `{"message":"internal error"}`)
}

// everyOperationFails sends the representative of every operation to a server whose store is broken.
func (ts *testServer) everyOperationFails(status int, want string) {
	ts.Helper()
	for _, s := range representatives(scenarioTables(ts.document)) {
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
