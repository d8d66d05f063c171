package main

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// After a signal, /readyz answers 503 while the listener accepts requests, so that a load balancer takes the server out
// of rotation first.
func TestReadinessEndsBeforeListenerCloses(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	for status := 0; status != http.StatusOK; { // until the dispatcher has started
		status, _ = p.readiness()
	}
	p.stop()
	p.waitForLog("draining")
	for range 3 {
		if strings.Contains(p.log.String(), "msg=stopping") {
			t.Error("the server stopped before the prober got three 503s")
		}
		if status, body := p.readiness(); status != http.StatusServiceUnavailable ||
			!strings.Contains(body, "the server is stopping") {
			t.Errorf("after the signal, readiness is %d %s", status, body)
		}
	}
	p.waitForExit(time.Minute)
}

// During the drain, the server answers requests as before.
func TestDrainingServerAnswersRequests(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	p.readiness()
	p.stop()
	p.waitForLog("draining")
	p.put("/client/12", `{}`)
	for range 3 {
		p.readiness()
	}
	p.waitForExit(time.Minute)
}

// If no address polls /readyz, there is no drain.
func TestNoDrainWithoutPollers(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	p.put("/client/12", `{}`)
	p.stop()
	p.waitForExit(time.Minute)
}

func (p *program) readiness() (status int, body string) {
	p.Helper()
	resp, err := http.Get(p.url + "/readyz")
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// waitForLog waits until the log has a text.
func (p *program) waitForLog(text string) {
	p.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(p.log.String(), text); runtime.Gosched() {
		if time.Now().After(end) {
			p.Fatalf("the log lacks %q: %s", text, p.log)
		}
	}
}
