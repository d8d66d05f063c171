package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
)

// A client that follows Link gets each item once and in order, even if items are created during the reading.
func TestContractPagesHaveEachItemOnce(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	ts.exec("UPDATE agent_events SET event_type = 'agent-logout' WHERE id = 2")
	ts.client("12").local(99).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
	for range 125 {
		ts.client("12").local(136).login().logout().remote(7).login().logout()
	}
	for range 3 {
		ts.receiverAnswers(404, "")
	}
	for query, where := range map[string]string{
		"":                                      "TRUE",
		"?limit=1000":                           "TRUE",
		"?limit=50":                             "TRUE",
		"?limit=7&agent_type=remote&agent_id=7": "c.kind = 'remote' AND c.agent_id = 7",
		"?limit=1&agent_type=local&agent_id=136&state=failed": "d.state = 'failed' AND " +
			"c.kind = 'local' AND c.agent_id = 136",
		"?limit=5&agent_type=local&agent_id=136&event_id=1": "d.event_id = 1",
		"?limit=1&event_id=1&state=failed": "d.state = 'failed' AND " +
			"d.event_id = 1",
		"?limit=9&agent_type=local&agent_id=136&before=90&until=9999-12-31T00:00:00Z": "d.id < 90 AND c.kind = " +
			"'local' AND c.agent_id = 136",
		"?agent_type=local&agent_id=136&limit=125": "c.kind = 'local' AND " +
			"c.agent_id = 136",
		"?agent_type=local&agent_id=136&limit=124": "c.kind = 'local' AND " +
			"c.agent_id = 136",
		"?state=failed&limit=1": "d.state = 'failed'",
		"?state=pending&event_id=2&limit=13": "d.state = 'pending' AND " +
			"d.event_id = 2",
		"?limit=13&event_id=2&since=" + sinceExample:      "d.event_id = 2",
		"?limit=60&before=100&until=9999-12-31T00:00:00Z": "d.id < 100",
	} {
		want := ts.rows(ts.db, "SELECT d.id FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE "+where+
			" ORDER BY d.id DESC")
		ts.wantPages("/client/12/delivery/"+query, "id", want)
	}
	changes := ts.rows(ts.db, "SELECT id FROM status_changes WHERE kind = 'local' AND agent_id = 136 ORDER BY id DESC")
	for _, query := range []string{"", "?limit=49", "?limit=250", "?limit=1000"} {
		ts.wantPages("/client/12/agent/local/136/status_change/"+query, "sequence", changes)
	}
}

// Lists of clients, agents and events have pages only with a limit.
func TestContractPagesRequireALimit(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	for n := range 5 {
		ts.put(fmt.Sprintf("/client/%d", 20+n), `{}`)
		ts.put(fmt.Sprintf("/client/12/agent/local/%d", 200+n), `{"extension_name":"x","extension_id":5}`)
		ts.put(fmt.Sprintf("/client/12/agent/remote/%d", 200+n), `{"agent_number":"x"}`)
		ts.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
		ts.client("12").remote(7).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
	}
	for _, list := range []string{
		"/client/", "/client/12/agent/local/", "/client/12/agent/local/?extension_id=5", "/client/12/agent/remote/",
		"/client/12/agent/local/136/event/", "/client/12/agent/remote/7/event/",
	} {
		whole := ts.send(scenario{request: "GET " + list})
		if link := whole.header.Get("Link"); link != "" {
			t.Errorf("GET %s: Link %q without a limit", list, link)
		}
		for _, limit := range []string{"1", "2", "3", "1000000"} {
			ts.wantPagesOf(list+map[bool]string{
				true: "&", false: "?",
			}[strings.Contains(list, "?")]+"limit="+limit, whole.body)
		}
	}
}

// wantPagesOf reads all pages, and compares their items with a list.
func (ts *testServer) wantPagesOf(target string, list []byte) {
	ts.Helper()
	items := []json.RawMessage{}
	for next := target; next != ""; {
		resp := ts.send(scenario{request: "GET " + next})
		var page []json.RawMessage
		ts.must(json.Unmarshal(resp.body, &page))
		items = append(items, page...)
		if next = ts.nextPage(resp); len(page) == 0 || len(items) > 1000 {
			ts.Fatalf("GET %s: a page of %d items, then %q", target, len(page), next)
		}
	}
	joined, err := json.Marshal(items)
	ts.must(err)
	ts.wantJSON("GET "+target, string(list), joined)
}

// sinceExample is exampleTime in another time zone.
const sinceExample = "2017-05-30T18:07:50%2B03:00"

// Without a limit, a page has a hundred items.
func TestContractDefaultPageHas100Items(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	for n := range 101 {
		ts.client("12").local(136).login().logout()
		if ts.replay("failed"); n%10 == 9 {
			ts.finishReplays() // at most ten run at the same time
		}
	}
	for _, list := range []string{"delivery/", "replay/", "status_change/", "agent/local/136/status_change/"} {
		resp := ts.send(scenario{request: "GET /client/12/" + list})
		var items []json.RawMessage
		ts.must(json.Unmarshal(resp.body, &items))
		if len(items) != 100 || resp.header.Get("Link") == "" {
			t.Errorf("%s has %d, Link %q", list, len(items), resp.header.Get("Link"))
		}
	}
}

// wantPages reads all pages, and compares the numbers in them. It creates changes during the reading.
func (ts *testServer) wantPages(target, number string, want []string) {
	ts.Helper()
	var got []string
	numbers := regexp.MustCompile(`[{]"` + number + `":(\d+)`)
	for next := target; next != ""; {
		resp := ts.send(scenario{request: "GET " + next})
		found := numbers.FindAllSubmatch(resp.body, -1)
		for _, n := range found {
			got = append(got, string(n[1]))
		}
		next = ts.nextPage(resp)
		if len(found) == 0 || len(got) == len(want) && next != "" {
			ts.Errorf("GET %s: after %d of %d items the next page is %q", target, len(got), len(want), next)
		}
		ts.client("12").local(99).login().logout()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		ts.Errorf("GET %s (-want +got):\n%s", target, diff)
	}
}

// nextPage returns the target of Link, or "".
func (ts *testServer) nextPage(resp *apiResponse) string {
	ts.Helper()
	link := resp.header.Get("Link")
	if link == "" {
		return ""
	}
	found := regexp.MustCompile(`^<(.+)>; rel="next"$`).FindStringSubmatch(link)
	if found == nil {
		ts.Fatalf("Link is %q", link)
	}
	return strings.TrimPrefix(found[1], ts.base)
}

// A client that follows the feed gets every change, including new ones, once and in order.
func TestContractFeedHasEachChangeOnce(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	for range 40 {
		ts.client("12").local(136).login().logout()
		ts.client("13").local(136).login().logout()
	}
	var got []string
	next, n := "/client/12/status_change/?limit=9", 1
	for n > 0 {
		resp := ts.send(scenario{request: "GET " + next})
		var page []gen.StatusChange
		ts.must(json.Unmarshal(resp.body, &page))
		for _, c := range page {
			got = append(got, strconv.FormatInt(c.Sequence, 10))
		}
		if next, n = ts.nextPage(resp), len(page); n == 9 {
			ts.client("12").remote(7).login().logout()
		}
	}
	want := ts.rows(ts.db, "SELECT id FROM status_changes WHERE client_id = '12' ORDER BY id")
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 100 {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}
}
