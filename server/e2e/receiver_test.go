package e2e

import (
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/server/lab"
)

// receiver records its requests. It answers 200 immediately, unless a test holds requests or sets another answer.
type receiver struct {
	*lab.Receiver
	record *lab.Record

	mu       sync.Mutex
	reply    func(*lab.Arrival) lab.Reply
	holds    func(*lab.Arrival) bool // nil holds none
	released chan struct{}
}

// newReceiver opens a receiver.
func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{record: lab.NewRecord(nil)}
	r.record.KeepHeaders = true
	r.answer(200)
	var err error
	if r.Receiver, err = lab.NewReceiver(r.record, 0, r.respond); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.release()
		r.Close()
	})
	return r
}

// newScriptedReceiver opens a receiver whose answers a function returns.
func newScriptedReceiver(t *testing.T, reply func(*lab.Arrival) lab.Reply) *receiver {
	t.Helper()
	r := newReceiver(t)
	r.script(reply)
	return r
}

// answer sets the status of all further answers.
func (r *receiver) answer(status int) {
	r.script(func(*lab.Arrival) lab.Reply { return lab.Reply{Status: status} })
}

// script sets the function that returns all further answers.
func (r *receiver) script(reply func(*lab.Arrival) lab.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply = reply
}

// hold withholds the answers to the requests that a function selects, until release or the end of the connection.
func (r *receiver) hold(which func(*lab.Arrival) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds, r.released = which, make(chan struct{})
}

// all holds every request.
func all(*lab.Arrival) bool { return true }

// release answers the held requests, and holds no further ones.
func (r *receiver) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds != nil {
		r.holds = nil
		close(r.released)
	}
}

// respond returns the answer to a request.
func (r *receiver) respond(a *lab.Arrival) lab.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds != nil && r.holds(a) {
		return lab.Reply{Hold: r.released}
	}
	return r.reply(a)
}

// arrivals returns the requests so far.
func (r *receiver) arrivals() []lab.Arrival { return r.record.Arrivals() }

// wait waits for at least n requests, and returns all.
func (r *receiver) wait(t testing.TB, n int) []lab.Arrival {
	t.Helper()
	eventually(t, "number of requests reaches "+strconv.Itoa(n), func() bool { return r.record.Count() >= n })
	return r.arrivals()
}

// formValue is the value of a key in a form, empty if there is none.
func formValue(form, key string) string {
	values, _ := url.ParseQuery(form)
	return values.Get(key)
}

// pair is an element of a form.
type pair struct{ key, value string }

// readForm reads a form in its order, which url.ParseQuery does not keep. What cannot be read is empty.
func readForm(form string) (all []pair) {
	for element := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(element, "=")
		key, _ = url.QueryUnescape(key)
		value, _ = url.QueryUnescape(value)
		all = append(all, pair{key, value})
	}
	return all
}
