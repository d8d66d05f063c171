package api

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// longDelivery is a delivery with the longest of all values, and one character in all of its texts.
func longDelivery(text string) gen.Delivery {
	at := gen.Time{Time: time.Date(2017, 5, 30, 15, 7, 50, 1e6, time.UTC)}
	return gen.Delivery{
		ID: math.MaxInt64, State: "delivered", AgentType: "remote", AgentID: math.MaxUint32, EventID: math.MaxUint32,
		EventType: "agent-logout", Sequence: math.MaxInt64, WebhookID: "msg_" + strings.Repeat("x", 60), Method: "POST",
		URL: strings.Repeat(text, 2048), Attempts: math.MaxInt32, Replays: math.MaxInt32, CreatedAt: at, ChangedAt: at,
		ExpiresAt: at, FinishedAt: &at, Reason: strings.Repeat("x", 60),
		LastAttempt: &gen.Attempt{
			Number: math.MaxInt32, StartedAt: at, DurationMs: 123456.789, Status: 999, Verdict: "delivered",
			Error: strings.Repeat(text, 100), Answer: strings.Repeat(text, 1024), Method: "POST",
			URL: strings.Repeat(text, 2048), Traceparent: strings.Repeat("x", 55),
		},
	}
}

func TestDeliveryIsNoLargerThanItsSize(t *testing.T) {
	for _, text := range []string{"x", "&", "<", ">", `"`, `\`, "\n", "\r", "\t", "\u2028", "\u2029", "ж", "☎"} {
		d := longDelivery(text)
		encoded, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if size := deliverySize(d); size < len(encoded) || size > len(encoded)+deliveryRest {
			t.Errorf("%q: the size is %d, of %d bytes", text, size, len(encoded))
		}
	}
}

// A page ends before it is too large, but has at least one entry.
func TestPageFitsItsSize(t *testing.T) {
	size := func(n int) int { return n }
	for _, c := range []struct {
		list []int
		want int
	}{
		{nil, 1},
		{[]int{1, 2, 3}, 3},
		{[]int{maxPageBytes}, 1},
		{[]int{maxPageBytes + 1}, 1},
		{[]int{maxPageBytes, 1}, 1},
		{[]int{maxPageBytes - 1, 1}, 2},
		{[]int{1, 1, maxPageBytes - 1, 1}, 2},
	} {
		if got := fitting(c.list, size); got != c.want {
			t.Errorf("%v: %d entries, want %d", c.list, got, c.want)
		}
	}
}

// A page of deliveries that is cut for its size leads to the next one.
func TestPageOfDeliveriesIsBounded(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	url := "https://example.com/?" + strings.Repeat("&", 2000)
	for range 100 {
		event := `{"url":"` + url + `","method":"POST","event_type":"agent-login"}`
		ls.expect(ls.call("POST", "/client/12/agent/local/136/event/", event), 201, "")
	}
	ls.expect(ls.call("PUT", "/client/12/agent/local/136/status", `{"agent_status":"available"}`), 200, "")
	ids := map[int64]bool{}
	pages := 0
	for path := "/client/12/delivery/?limit=1000"; path != ""; pages++ {
		g := ls.call("GET", path, "")
		var page []gen.Delivery
		if err := json.Unmarshal([]byte(g.body), &page); err != nil || len(g.body) > maxPageBytes {
			t.Fatalf("%d bytes: %v", len(g.body), err)
		}
		for _, d := range page {
			ids[d.ID] = true
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(g.header.Get("Link"), "</api/ver1.0"), ">")
	}
	if len(ids) != 100 || pages != 2 {
		t.Errorf("%d pages have %d deliveries", pages, len(ids))
	}
}
