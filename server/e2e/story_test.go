package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// The server behaves as in the example of the API manual, and as in make demo.
func TestExampleOfTheManualWorks(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "000*094@ringme.ru")
	show := r.URL + "/fordel/show.php"
	a.createEvent(gen.AgentTypeLocal, 136, show, gen.RequestMethodGET, gen.EventTypeAgentLogin)

	checkStatus(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed true, deliveries 1")
	got := r.wait(t, 1)[0]
	equal(t, "request", got.Request(), "GET /fordel/show.php?agent_status=available&agent_type=local&event_source=api&"+
		"agent_id=136&extension_name=000%2A094%40ringme.ru ")
	equal(t, "pairs", fmt.Sprint(readForm(got.Form())), "[{agent_status available} {agent_type local} "+
		"{event_source api} {agent_id 136} {extension_name 000*094@ringme.ru}]")
	checkHeaders(t, got, 1, "agent-login", version)

	checkStatus(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed false, deliveries 0")

	a.createEvent(gen.AgentTypeLocal, 136, show+"?left=alone", gen.RequestMethodPOST, gen.EventTypeAgentLogout)
	checkStatus(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{
		AgentStatus: gen.AgentStatusValueLoggedOut, EventSource: gen.EventSourcePhone,
	}), "logged_out by phone, sequence 2, changed true, deliveries 1")
	got = r.wait(t, 2)[1] // a request of the second login would precede it in the lane
	equal(t, "request", got.Request(), "POST /fordel/show.php?left=alone agent_status=logged_out&agent_type=local&"+
		"event_source=phone&agent_id=136&extension_name=000%2A094%40ringme.ru")
	equal(t, "content type", got.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
	checkHeaders(t, got, 2, "agent-logout", version)

	a.putAgent(gen.AgentTypeRemote, 7, "+7 (812) 336-42-42")
	a.createEvent(gen.AgentTypeRemote, 7, show, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeRemote, 7, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	got = r.wait(t, 3)[2]
	equal(t, "pairs", fmt.Sprint(readForm(got.Form())), "[{agent_status available} {agent_type remote} "+
		"{event_source api} {agent_id 7} {agent_number +7 (812) 336-42-42}]")

	equal(t, "exit code", p.stop(t), 0) // after the stop, no request is in flight
	equal(t, "total of requests", len(r.arrivals()), 3)
}

// checkHeaders checks the headers of a first attempt.
func checkHeaders(t *testing.T, got lab.Arrival, sequence int64, eventType, version string) {
	t.Helper()
	equal(t, "agentevents-sequence", got.Sequence, sequence)
	equal(t, "agentevents-attempt", got.Header.Get("agentevents-attempt"), "1")
	equal(t, "agentevents-event-type", got.Header.Get("agentevents-event-type"), eventType)
	equal(t, "User-Agent", got.Header.Get("User-Agent"), "agentevents/"+version)
	for _, name := range []string{"webhook-id", "webhook-timestamp", "agentevents-changed-at"} {
		if got.Header.Get(name) == "" {
			t.Errorf("the header %s is missing", name)
		}
	}
}

// A receiver gets names unchanged, with any characters.
func TestNamesArriveUnchanged(t *testing.T) {
	pgtest.SQLiteOnly(t, "requests do not depend on the engine")
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	for i, name := range unusualNames {
		id := int64(i + 1)
		for j, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
			kind := []gen.AgentType{gen.AgentTypeLocal, gen.AgentTypeRemote}[j]
			a.putAgent(kind, id, name)
			a.createEvent(kind, id, r.URL, method, gen.EventTypeAgentLogin)
			a.set(kind, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
			n := 2*i + j + 1
			got := r.wait(t, n)[n-1]
			pairs := readForm(got.Form())
			equal(t, "name by "+got.Method, pairs[len(pairs)-1].value, name)
			equal(t, "number of pairs", len(pairs), 5)
		}
	}
}

var unusualNames = []string{
	"x", " ", "000*094@ringme.ru", "+7 (812) 336-42-42", "a+b%20c%2Bd%", "a&b=c;d#e?f/g\\h",
	`"it's" <b>$1</b> {}[]|^~` + "`",
	"Łukasz Ünïcødé", "Агент №1", "座席 ☎", "👩🏽‍💻", "name => value", strings.Repeat("ж", 255),
}

// GET appends to the URL's query without a change of its bytes, and drops the fragment.
func TestGETKeepsTheQueryOfTheURL(t *testing.T) {
	pgtest.SQLiteOnly(t, "requests do not depend on the engine")
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	const data = "agent_status=available&agent_type=local&event_source=api&agent_id=1&extension_name=x"
	for i, c := range []struct{ url, want string }{
		{"/hook?key=a%20b+c&agent_id=9#top", "GET /hook?key=a%20b+c&agent_id=9&" + data + " "},
		{"/hook?", "GET /hook?" + data + " "},
		{"/hook?flag&", "GET /hook?flag&" + data + " "},
		{"/a%2Fb/%C3%BC?z=%e4|[]%", "GET /a%2Fb/%C3%BC?z=%e4%7C%5B%5D%25&" + data + " "},
	} {
		id := int64(i + 1)
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.createEvent(gen.AgentTypeLocal, id, r.URL+c.url, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		want := strings.Replace(c.want, "agent_id=1&", fmt.Sprintf("agent_id=%d&", id), 1)
		equal(t, "request for "+c.url, r.wait(t, i+1)[i].Request(), want)
	}
}

// All events of the agent and the type fire, and no others.
func TestEveryMatchingEventFires(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "x")
	a.putAgent(gen.AgentTypeLocal, 137, "y")
	a.putAgent(gen.AgentTypeRemote, 136, "z")
	a.createEvent(gen.AgentTypeLocal, 136, r.URL+"/one", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.createEvent(gen.AgentTypeLocal, 136, r.URL+"/two", gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	a.createEvent(gen.AgentTypeLocal, 136, r.URL+"/out", gen.RequestMethodGET, gen.EventTypeAgentLogout)
	a.createEvent(gen.AgentTypeLocal, 137, r.URL+"/other", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.createEvent(gen.AgentTypeRemote, 136, r.URL+"/remote", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	deleted := a.createEvent(gen.AgentTypeLocal, 136, r.URL+"/deleted", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.deleteEvent(136, deleted)

	checkStatus(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed true, deliveries 2")
	checkStatus(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueLoggedOut}),
		"logged_out by api, sequence 2, changed true, deliveries 1")
	got := r.wait(t, 3)
	paths := []string{got[0].Path, got[1].Path, got[2].Path} // one lane keeps their order
	if !slices.Equal(paths, []string{"/one", "/two", "/out"}) {
		t.Errorf("the receiver got %v", paths)
	}
	equal(t, "sequence of the second delivery", got[1].Sequence, got[0].Sequence)
	if got[0].ID == got[1].ID {
		t.Errorf("two deliveries have the webhook-id %s", got[0].ID)
	}
}

// checkStatus compares the answer to a status.
func checkStatus(t *testing.T, s gen.AgentStatus, want string) {
	t.Helper()
	equal(t, "status", fmt.Sprintf("%s by %s, sequence %d, changed %t, deliveries %d",
		s.AgentStatus, s.EventSource, s.Sequence, s.Changed, s.Deliveries), want)
}
