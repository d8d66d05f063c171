package main

import (
	"context"
	"net/http"
	"sync"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

const (
	mostTests   = 64 // that are under way at a time, and
	clientTests = 4  // of one client
)

// gate lets only so many tests be under way. Each may take as long as a receiver hangs.
type gate struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by client
}

func newGate() *gate { return &gate{of: map[string]int{}} }

func (g *gate) enter(client string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == mostTests || g.of[client] == clientTests {
		return false
	}
	g.all++
	g.of[client]++
	return true
}

func (g *gate) leave(client string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.of[client]--; g.of[client] == 0 {
		delete(g.of, client)
	}
}

// test sends a sample to an event's URL. What is stored of it does not depend on whether the caller still waits.
func (h handlers) test(ctx context.Context, k store.AgentKey, event int64) (m gen.EventTestResult, err error) {
	d, err := h.store.NewSample(ctx, k, event)
	if err != nil {
		return m, err
	}
	if !h.tests.enter(k.Client) {
		return m, &refusal{http.StatusTooManyRequests, gen.ErrorResponse{
			Message: "too many tests are under way, try again", Status: "too_many_tests",
		}}
	}
	defer h.tests.leave(k.Client)
	ctx = context.WithoutCancel(ctx)
	ended := h.traces.sample(ctx, &d)
	a := h.sender.Send(ctx, d)
	ended(webhook.Outcome{Attempt: a})
	s, err := h.store.SaveSample(ctx, event, k.Type, d, a)
	if err != nil {
		return m, err
	}
	return h.sample(ctx, s)
}

// sample is a test as the API says it.
func (h handlers) sample(ctx context.Context, s store.Sample) (gen.EventTestResult, error) {
	at := gen.Time{Time: s.Attempt.StartedAt}
	s.Sent.URL = shownURL(ctx, s.Sent.URL)
	request, err := h.sender.Render(s.Sent, s.Attempt.StartedAt, s.Attempt.Signature)
	return gen.EventTestResult{ID: s.ID, At: at, Request: shownRequest(ctx, request), Attempt: gen.Attempt{
		Number: 1, StartedAt: at, DurationMs: float64(s.Attempt.Duration.Microseconds()) / 1000, Status: s.Attempt.Status,
		Verdict: string(s.Attempt.Verdict), Error: s.Attempt.Error, Answer: s.Attempt.Excerpt,
		Traceparent: s.Sent.Traceparent,
	}}, err
}

func (h handlers) samples(ctx context.Context, k store.AgentKey, event int64) ([]gen.EventTestResult, error) {
	found, err := h.store.Samples(ctx, k, event)
	tests := make([]gen.EventTestResult, len(found))
	for i := 0; err == nil && i < len(found); i++ {
		tests[i], err = h.sample(ctx, found[i])
	}
	return tests, err
}

func (h handlers) TestLocalAgentEvent(
	ctx context.Context, r api.TestLocalAgentEventRequestObject,
) (api.TestLocalAgentEventResponseObject, error) {
	m, err := h.test(ctx, local(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.TestLocalAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(m)}, nil
}

func (h handlers) TestRemoteAgentEvent(
	ctx context.Context, r api.TestRemoteAgentEventRequestObject,
) (api.TestRemoteAgentEventResponseObject, error) {
	m, err := h.test(ctx, remote(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.TestRemoteAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(m)}, nil
}

func (h handlers) ListLocalAgentEventTests(
	ctx context.Context, r api.ListLocalAgentEventTestsRequestObject,
) (api.ListLocalAgentEventTestsResponseObject, error) {
	tests, err := h.samples(ctx, local(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.ListLocalAgentEventTests200JSONResponse(tests), nil
}

func (h handlers) ListRemoteAgentEventTests(
	ctx context.Context, r api.ListRemoteAgentEventTestsRequestObject,
) (api.ListRemoteAgentEventTestsResponseObject, error) {
	tests, err := h.samples(ctx, remote(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.ListRemoteAgentEventTests200JSONResponse(tests), nil
}
