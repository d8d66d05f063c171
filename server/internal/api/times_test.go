package api

import (
	"net/http"
	"strings"
	"testing"
)

// Bodies and queries accept all forms of a time. A text in the form of a time is not changed.
func TestAllFormsOfATimeAreAccepted(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t).withAgents()
	for i, text := range []string{
		"2017-05-30t15:00:0%dz", "2017-05-30T15:00:0%d+0000", "2017-05-30T18:00:0%d.000+03:00",
	} {
		text = strings.ReplaceAll(text, "%d", string(rune('1'+i)))
		status := []string{"available", "logged_out"}[i%2]
		want := `"changed_at":"2017-05-30T15:00:0` + string(rune('1'+i)) + `.000Z","changed":true`
		for path, body := range map[string]string{
			"/client/12/agent/local/136/status": `{"agent_status":"` + status + `","changed_at":"` + text + `"}`,
			"/client/12/status/": `[{"agent_type":"remote","agent_id":7,"agent_status":"` + status +
				`","changed_at":"` + text + `"}]`,
		} {
			if g := ls.call("PUT", path, body); g.status != http.StatusOK || !strings.Contains(g.body, want) {
				t.Errorf("%s %s: %d %s", path, body, g.status, g.body)
			}
		}
	}
	ls.expect(ls.call("PUT", "/client/12", `{"name":"2017-05-30t15:00:00z"}`), http.StatusOK,
		`{"id":"12","name":"2017-05-30t15:00:00z","blocked":false}`)
	for _, query := range []string{
		"since=2017-05-30t15:00:00z&until=2017-05-30T15:00:01%2B0000",
		"since=2017-05-30T15:00:00+0000&until=2017-06-30T23:59:60Z",
		"since=2017-05-30T18:00:00+03:00",
	} {
		ls.expect(ls.call("GET", "/client/12/delivery/?"+query, ""), http.StatusOK, `[]`)
	}
	ls.expect(ls.call("POST", "/client/12/delivery/redeliver",
		`{"since":"2017-05-30t15:00:00z","until":"2017-05-30T15:00:01+0000"}`),
		http.StatusAccepted, "")
}

// All forms of a time select the same deliveries, on the first page and on the next one.
func TestAllFormsOfATimeSelectTheSame(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withLog()
	list := func(query string) string {
		first := ts.send(scenario{request: "GET /client/12/delivery/?limit=2&" + query})
		second := ts.send(scenario{request: "GET " + ts.nextPage(first)})
		return string(first.body) + string(second.body)
	}
	for _, name := range []string{"since", "until"} {
		want := list(name + "=2017-05-30T17:00:00.001Z")
		if list(name+"=2017-05-30T17:00:00.000Z") == want {
			t.Fatalf("a millisecond makes no difference to %s", name)
		}
		for _, text := range []string{
			"2017-05-30t17:00:00.001z", "2017-05-30T17:00:00.001%2B0000", "2017-05-30T17:00:00.001+0000",
			"2017-05-30T20:00:00.001+03:00", "2017-05-30T20:00:00.001%200300", "2017-05-30T13:30:00.001-0330",
		} {
			if got := list(name + "=" + text); got != want {
				t.Errorf("%s=%s: %s, want %s", name, text, got, want)
			}
		}
	}
}

func TestReplayAcceptsAllFormsOfATime(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withLog()
	resp := ts.send(scenario{
		request: replayRequest, body: `{"since":"2017-05-30t19:00:00.001+0300","until":"2016-12-31T23:59:60Z"}`,
	})
	if resp.status != http.StatusBadRequest || !strings.Contains(string(resp.body), "until") {
		t.Errorf("until before since: %d %s", resp.status, resp.body)
	}
	resp = ts.send(scenario{
		request: replayRequest, body: `{"since":"2016-12-31T23:59:60z","until":"2017-05-30t19:00:00.001+0300"}`,
	})
	want := `"since":"2017-01-01T00:00:00.000Z","until":"2017-05-30T16:00:00.001Z"`
	if !strings.Contains(string(resp.body), want) {
		t.Errorf("%d %s, want %s", resp.status, resp.body, want)
	}
}
