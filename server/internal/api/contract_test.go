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
	name    string
	op      string            // operationId; empty for what the document does not have
	given   func(*world)      // what there is before; nil means nothing
	request string            // method and target, below the API's base path
	header  map[string]string // an empty value takes a header away
	body    string            // JSON, unless a header says otherwise
	chunked bool              // the body is sent without telling its length
	atRoot  bool              // the target is not below the API's base path
	status  int
	want    string            // the answer's body, its order of fields included; empty: the document says enough
	answer  map[string]string // headers of the answer; an empty value is for one that must not be there
	wrong   []string          // the fields that errors[] must name, these and no others
	then    func(*world)      // what must be so after
	kind    kind              // of agents; local unless set
	family  string            // those of a family begin with the same; empty: alone
}

// kind is what differs between the kinds of agents.
type kind struct {
	word        gen.AgentType
	id, event   int64
	field, name string
}

var (
	ofLocal  = kind{gen.AgentTypeLocal, 136, 1, "extension_name", "000*094@ringme.ru"}
	ofRemote = kind{gen.AgentTypeRemote, 7, 2, "agent_number", "+7 (812) 336-42-42"}
)

func (k kind) other() kind {
	if k == ofLocal {
		return ofRemote
	}
	return ofLocal
}

// fill puts a kind into texts: {kind} and {Kind} are its word, {id} and {event} its agent and event of withEvents,
// {field} and {name} what its agents are called; {other}, {otherID} and {otherField} are of the other kind.
func (k kind) fill(text string) string {
	word, other := string(k.word), k.other()
	return strings.NewReplacer(
		"{kind}", word, "{Kind}", strings.ToUpper(word[:1])+word[1:],
		"{id}", strconv.FormatInt(k.id, 10), "{event}", strconv.FormatInt(k.event, 10),
		"{field}", k.field, "{name}", k.name,
		"{other}", string(other.word), "{otherID}", strconv.FormatInt(other.id, 10), "{otherField}", other.field,
		"{now}", seedTime,
	).Replace(text)
}

// forKinds makes a scenario of each kind out of every one.
func forKinds(scenarios []scenario) (all []scenario) {
	for _, k := range []kind{ofLocal, ofRemote} {
		for _, s := range scenarios {
			s.kind = k
			s.wrong = slices.Clone(s.wrong)
			texts := []*string{&s.name, &s.op, &s.request, &s.body, &s.want, &s.family}
			for i := range s.wrong {
				texts = append(texts, &s.wrong[i])
			}
			for _, text := range texts {
				*text = k.fill(*text)
			}
			s.answer = maps.Clone(s.answer)
			for name, value := range s.answer {
				s.answer[name] = k.fill(value)
			}
			s.name = string(k.word) + ": " + s.name
			all = append(all, s)
		}
	}
	return all
}

// contractScenarios are all, by what they are about.
func contractScenarios(c *document) map[string][]scenario {
	tables := map[string][]scenario{
		"client":   clientScenarios(),
		"agent":    forKinds(agentScenarios()),
		"event":    forKinds(eventScenarios()),
		"state":    forKinds(stateScenarios()),
		"secret":   secretScenarios(),
		"status":   forKinds(statusScenarios()),
		"statuses": statusesScenarios(),
		"delivery": deliveryScenarios(),
		"replay":   replayScenarios(),
		"feed":     feedScenarios(),
		"change":   forKinds(changeScenarios()),
		"sample":   forKinds(sampleScenarios()),
		"access":   accessTable(),
		"limit":    append(limitScenarios(), forKinds(fullScenarios())...),
	}
	for _, scenarios := range tables {
		for i, s := range scenarios {
			if s.kind == (kind{}) {
				scenarios[i].kind = ofLocal
			}
		}
	}
	for _, s := range goodRequests(tables) {
		about := "every " + string(s.kind.word)
		tables[about] = append(tables[about], everyOperation(c, s)...)
	}
	return tables
}

func TestContract(t *testing.T) {
	t.Parallel()
	for about, scenarios := range contractScenarios(theContract(t)) {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { w.in(t, func() { w.play(s) }) })
			}
		})
	}
}

func (w *world) play(s scenario) {
	w.Helper()
	w.arrange(s)
	logged := w.log.String()
	a := w.send(s)
	w.reply = a
	if news := strings.TrimPrefix(w.log.String(), logged); s.status < 500 && news != "" {
		w.Errorf("%s: %d, but the log has a warning: %s", s.request, a.status, news)
	}
	if a.endpoint == nil || a.endpoint.id != s.op {
		w.Errorf("%s is not operation %s", s.request, s.op)
	}
	if a.status != s.status {
		w.Fatalf("%s: %d %s, want %d", s.request, a.status, a.body, s.status)
	}
	if s.want != "" {
		w.same(s.request, s.want, a.body)
	}
	for name, want := range s.answer {
		if got := a.header.Get(name); got != want {
			w.Errorf("%s: the header %s is %q, want %q", s.request, name, got, want)
		}
	}
	w.names(s, a)
	if !mayBeForbidden(s.status) {
		w.must(w.checkRequest(a))
	}
	if s.status >= 400 || strings.HasPrefix(s.request, "GET ") {
		if diff := cmp.Diff(stored(w.before), stored(w.dump())); diff != "" {
			w.Errorf("%s: %d, but the store has changed:\n%s", s.request, s.status, diff)
		}
	}
	if s.then != nil {
		s.then(w)
	}
}

// mayBeForbidden says whether a request that gets a status need not be one that the document allows.
func mayBeForbidden(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// names compares the fields that an error names.
func (w *world) names(s scenario, a *reply) {
	w.Helper()
	if s.wrong == nil {
		return
	}
	var got []string
	for _, e := range errorsOf(w, a) {
		got = append(got, e.Field)
		if e.Message == "" {
			w.Errorf("%s: nothing is said about %s", s.request, e.Field)
		}
	}
	want := slices.Sorted(slices.Values(s.wrong))
	slices.Sort(got)
	if !slices.Equal(want, got) {
		w.Errorf("%s names the fields %q, want %q: %s", s.request, got, want, a.body)
	}
}

// errorsOf are the fields that an error is about.
func errorsOf(w *world, a *reply) []gen.FieldError {
	w.Helper()
	var e gen.ErrorResponse
	w.must(json.Unmarshal(a.body, &e))
	return e.Errors
}

// Every operation and every status that the document declares for it has a scenario. What a broken store makes of all
// operations, 500 and 503, and a body that does not arrive, 408, are in tests of their own.
func TestContractIsCovered(t *testing.T) {
	t.Parallel()
	c := theContract(t)
	covered := map[string]bool{}
	for _, scenarios := range contractScenarios(c) {
		for _, s := range scenarios {
			covered[fmt.Sprint(s.op, " ", s.status)] = true
		}
	}
	for _, e := range c.endpoints {
		for status := range e.operation.Responses.Map() {
			if !slices.Contains([]string{"408", "500", "503"}, status) && !covered[e.id+" "+status] {
				t.Errorf("%s has no scenario of status %s", e.id, status)
			}
		}
	}
}

// A store that does not answer: 503, and the request may be made again.
func TestContractUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.close()
	w.fails(http.StatusServiceUnavailable, `{"message":"the store is not available, try again"}`)
}

// Anything that nobody foresaw, here a database without tables: 500, and not a word about what it was.
func TestContractInternalError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, table := range w.contents(w.db) {
		w.exec("DROP TABLE " + table)
	}
	w.fails(http.StatusInternalServerError, `{"message":"internal error"}`)
}

// fails sends a good request of every operation to a store that is broken.
func (w *world) fails(status int, want string) {
	w.Helper()
	good := goodRequests(contractScenarios(w.document))
	if len(good) != len(w.endpoints) {
		w.Errorf("%d of %d operations have a good request", len(good), len(w.endpoints))
	}
	for _, s := range good {
		a := w.send(s)
		if a.status != status {
			w.Errorf("%s: %d %s, want %d", s.request, a.status, a.body, status)
			continue
		}
		w.same(s.request, want, a.body)
		if retry := a.header.Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable) {
			w.Errorf("%s: %d with Retry-After %q", s.request, status, retry)
		}
	}
}

// goodRequests are the first scenario of each operation that succeeds.
func goodRequests(tables map[string][]scenario) (good []scenario) {
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
