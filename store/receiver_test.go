package store_test

import (
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// receivers lists the receivers of all lanes.
func (f *fixture) receivers() (found []string) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	rows, err := db.Query("SELECT scheme, host, port FROM receivers ORDER BY id")
	f.check(err)
	defer rows.Close()
	for rows.Next() {
		var scheme, host, port string
		f.check(rows.Scan(&scheme, &host, &port))
		found = append(found, scheme+" "+host+" "+port)
	}
	f.check(rows.Err())
	return found
}

// Different spellings of a host are one receiver, and one lane of an agent, so pending deliveries have one order.
func TestSpellingsOfAHostAreOneReceiver(t *testing.T) {
	f := open(t)
	k := f.agent()
	for _, url := range []string{
		"http://Бюро.hook.test/a", "HTTP://бюро。ＨＯＯＫ．test:80/b?c", "http://u:p@xn--90A0AF9C.hook.test/#d",
		"https://[2606:4700::1111]/", "https://[2606:4700:0:0:0:0:0:1111]:443/",
	} {
		f.createEvents(k, url, gen.EventTypeAgentLogin)
	}
	want := []string{"http xn--90a0af9c.hook.test 80", "https 2606:4700::1111 443"}
	if got := f.receivers(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the receivers are %q, want %q", got, want)
	}
	f.set(k, gen.AgentStatusValueAvailable)
	f.verify()
}

// Such an event, from before hosts were mapped, keeps its receiver until it gets another URL.
func TestUnmappedReceiverIsKeptUntilTheURLChanges(t *testing.T) {
	f := open(t)
	k := f.agent()
	event := f.createEvents(k, "http://Бюро.hook.test/", gen.EventTypeAgentLogin)[0]
	f.sql("UPDATE receivers SET host = 'бюро.hook.test'")
	f.set(k, gen.AgentStatusValueAvailable)
	f.verify()
	_, err := f.UpdateEvent(f.ctx, k, event, gen.AgentEventUpdate{EventType: new(gen.EventTypeAgentLogout)})
	f.check(err)
	if got := f.receivers(); len(got) != 1 {
		t.Errorf("the receivers are %q, but the URL is unchanged", got)
	}
	f.redirect(k, event, "http://Бюро.hook.test/b")
	if got := f.receivers(); len(got) != 2 || got[1] != "http xn--90a0af9c.hook.test 80" {
		t.Errorf("the receivers are %q, and the URL is another one", got)
	}
	f.verify()
}

func TestInvalidHostDoesNotStopTheStore(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, "http://a..b:81/", gen.EventTypeAgentLogin)
	f.set(k, gen.AgentStatusValueAvailable)
	if got := f.receivers(); len(got) != 1 || got[0] != "http a..b 81" {
		t.Errorf("the receivers are %q", got)
	}
	f.verify()
}
