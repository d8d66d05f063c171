package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// Polls that wait are told from the stacks of their goroutines, which another test's would mix up: this test runs while
// no other does.
func TestContractPolls(t *testing.T) {
	w := newWorld(t)
	w.withEvents()
	for _, poll := range []struct {
		name string
		test func(*world)
	}{
		{"a change ends it at once", (*world).pollEndsByChange},
		{"each change of several, whoever asks", (*world).pollsByMany},
		{"another client's change does not", (*world).pollOfAnotherClient},
		{"the time is over", (*world).pollTimesOut},
		{"the client is deleted", (*world).pollOfDeletedClient},
		{"the caller goes away", (*world).pollIsGivenUp},
		{"it begins with the next change", (*world).pollFromNewest},
		{"the server stops", (*world).pollsEndByStop}, // last
	} {
		t.Run(poll.name, func(t *testing.T) { w.in(t, func() { poll.test(w) }) })
	}
}

// ending is what a poll ends with.
type ending struct {
	*reply
	took time.Duration
	err  error
}

// poll asks for changes, and returns when it waits for them.
func (w *world) poll(query string) <-chan ending {
	w.Helper()
	before, ended := waiting(), make(chan ending, 1)
	go func() {
		began := time.Now()
		a, err := w.try(scenario{request: "GET /client/12/status_change/" + query})
		ended <- ending{a, time.Since(began), err}
	}()
	w.await(before + 1)
	return ended
}

// polling is the stack of one that waits.
var polling = regexp.MustCompile(`(?m)^goroutine \d+ \[select.*\]:\n\S+\.handlers\.follow\(`)

// waiting counts the polls that wait.
func waiting() int {
	stacks := make([]byte, 4<<20)
	return len(polling.FindAll(stacks[:runtime.Stack(stacks, true)], -1))
}

// await returns when so many polls wait.
func (w *world) await(polls int) {
	w.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for waiting() != polls {
		select {
		case <-look.C:
		case <-end.C:
			w.Fatalf("%d polls wait, want %d", waiting(), polls)
		}
	}
}

// ends compares what a poll ends with.
func (w *world) ends(poll <-chan ending, status int, sequences ...int64) ending {
	w.Helper()
	a := <-poll
	w.must(a.err)
	w.must(w.check(a.reply))
	var got []int64
	if a.status == http.StatusOK {
		var page []gen.StatusChange
		w.must(json.Unmarshal(a.body, &page))
		for _, c := range page {
			got = append(got, c.Sequence)
		}
	}
	if a.status != status || fmt.Sprint(got) != fmt.Sprint(sequences) {
		w.Errorf("%d %s, want %d and the changes %v", a.status, a.body, status, sequences)
	}
	if a.took > 25*time.Second { // no poll waits for its 30 seconds
		w.Errorf("it took %v", a.took)
	}
	return a
}

func (w *world) pollEndsByChange() {
	poll := w.poll("?wait=30")
	w.client("12").local(136).login()
	a := w.ends(poll, 200, 1)
	if link := a.header.Get("Link"); link != `</api/ver1.0/client/12/status_change/?after=1&epoch=`+seedEpoch+`&wait=30>; rel="next"` {
		w.Errorf("Link is %s", link)
	}
	poll = w.poll("?after=1&wait=30")
	w.put("/client/12/status/", `[{"agent_type":"local","agent_id":136,"agent_status":"logged_out"},`+
		`{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`)
	w.ends(poll, 200, 2, 3)
	poll = w.poll("?after=3&wait=30")
	w.delete("/client/12/agent/remote/7") // which was available: it logs out
	w.ends(poll, 200, 4)
}

func (w *world) pollsByMany() {
	var polls []<-chan ending
	for range 10 {
		polls = append(polls, w.poll("?after=4&wait=30"))
	}
	w.client("12").local(136).login()
	for _, poll := range polls {
		w.ends(poll, 200, 5)
	}
}

func (w *world) pollOfAnotherClient() {
	poll := w.poll("?after=5&wait=30")
	w.client("13").local(136).login()
	w.client("12").local(136).login() // is so already
	w.client("12").local(136).logout()
	w.ends(poll, 200, 7)
}

func (w *world) pollTimesOut() {
	a := w.ends(w.poll("?after=7&wait=1"), 200)
	want := `</api/ver1.0/client/12/status_change/?after=7&epoch=` + seedEpoch + `&wait=1>; rel="next"`
	if link := a.header.Get("Link"); a.took < time.Second || link != want {
		w.Errorf("it took %v, Link is %s", a.took, link)
	}
}

func (w *world) pollOfDeletedClient() {
	poll := w.poll("?after=7&wait=30")
	w.delete("/client/12")
	w.ends(poll, 404)
	w.client("12").local(136).login()
}

// pollIsGivenUp leaves nothing behind.
func (w *world) pollIsGivenUp() {
	ctx, giveUp := context.WithCancel(w.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+w.base+"/client/12/status_change/?after=8&wait=30", nil)
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+asOperator.token)
	ended := make(chan error)
	go func() {
		_, err := w.server.Client().Do(r)
		ended <- err
	}()
	w.await(1)
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		w.Errorf("it ended with %v", err)
	}
	w.await(0)
}

// pollFromNewest has a reader that wants nothing of before get the next change, and where it goes on.
func (w *world) pollFromNewest() {
	poll := w.poll("?start=newest&wait=30")
	w.client("12").local(136).logout()
	a := w.ends(poll, 200, 9)
	want := `</api/ver1.0/client/12/status_change/?after=9&epoch=` + seedEpoch + `&wait=30>; rel="next"`
	if link := a.header.Get("Link"); link != want {
		w.Errorf("Link is %s, want %s", link, want)
	}
}

func (w *world) pollsEndByStop() {
	first, second := w.poll("?start=newest&wait=30"), w.poll("?after=9&wait=30")
	close(w.stopping)
	w.ends(first, 200)
	w.ends(second, 200)
}

// However many polls wait, the server stops at once when it is told to.
func TestStopEndsPolls(t *testing.T) {
	p := start(t)
	p.put("/client/12", `{}`)
	w := &world{TB: t}
	answers := make(chan string)
	for range 20 {
		go func() {
			resp, err := p.api.Get(p.url + basePath + "/client/12/status_change/?wait=30")
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			answers <- fmt.Sprintf("%d %s%v", resp.StatusCode, body, err)
		}()
	}
	w.await(20)
	p.stop()
	for range 20 {
		if got := <-answers; got != "200 []\n<nil>" {
			t.Errorf("a poll ended with %q", got)
		}
	}
	p.ends(time.Minute)
}
