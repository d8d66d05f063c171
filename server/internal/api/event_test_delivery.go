package api

import (
	"context"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// sendTest sends a sample to an event's URL. What is stored of it does not depend on whether the caller still waits.
func (h handlers) sendTest(ctx context.Context, k store.AgentKey, event int64) (m gen.EventTestResult, err error) {
	d, err := h.store.NewSample(ctx, k, event)
	if err != nil {
		return m, err
	}
	if !h.testLimiter.Acquire(k.Client) {
		return m, &request.Refusal{Status: http.StatusTooManyRequests, Body: gen.ErrorResponse{
			Message: "too many tests are under way, try again", Status: "too_many_tests",
		}}
	}
	defer h.testLimiter.Release(k.Client)
	ctx = context.WithoutCancel(ctx)
	ended := h.traces.TestAttempt(ctx, &d)
	a := h.sender.Send(ctx, d)
	ended(webhook.Outcome{Attempt: a})
	s, err := h.store.SaveSample(ctx, event, k.Type, d, a)
	if err != nil {
		return m, err
	}
	return h.testResult(ctx, s)
}

// testResult is a test as the API says it.
func (h handlers) testResult(ctx context.Context, s store.Sample) (gen.EventTestResult, error) {
	at := gen.Time{Time: s.Attempt.StartedAt}
	s.Sent.URL = redactURL(ctx, s.Sent.URL)
	request, err := h.sender.Render(s.Sent, s.Attempt.StartedAt, s.Attempt.Signature)
	return gen.EventTestResult{ID: s.ID, At: at, Request: redactRequest(ctx, request), Attempt: gen.Attempt{
		Number: 1, StartedAt: at, DurationMs: float64(s.Attempt.Duration.Microseconds()) / 1000, Status: s.Attempt.Status,
		Verdict: string(s.Attempt.Verdict), Error: s.Attempt.Error, Answer: s.Attempt.Excerpt,
		Traceparent: s.Sent.Traceparent,
	}}, err
}

func (h handlers) testResults(ctx context.Context, k store.AgentKey, event int64) ([]gen.EventTestResult, error) {
	found, err := h.store.Samples(ctx, k, event)
	tests := make([]gen.EventTestResult, len(found))
	for i := 0; err == nil && i < len(found); i++ {
		tests[i], err = h.testResult(ctx, found[i])
	}
	return tests, err
}

func (h handlers) TestLocalAgentEvent(
	ctx context.Context, r api.TestLocalAgentEventRequestObject,
) (api.TestLocalAgentEventResponseObject, error) {
	m, err := h.sendTest(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.TestLocalAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(m)}, nil
}

func (h handlers) TestRemoteAgentEvent(
	ctx context.Context, r api.TestRemoteAgentEventRequestObject,
) (api.TestRemoteAgentEventResponseObject, error) {
	m, err := h.sendTest(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.TestRemoteAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(m)}, nil
}

func (h handlers) ListLocalAgentEventTests(
	ctx context.Context, r api.ListLocalAgentEventTestsRequestObject,
) (api.ListLocalAgentEventTestsResponseObject, error) {
	tests, err := h.testResults(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.ListLocalAgentEventTests200JSONResponse(tests), nil
}

func (h handlers) ListRemoteAgentEventTests(
	ctx context.Context, r api.ListRemoteAgentEventTestsRequestObject,
) (api.ListRemoteAgentEventTestsResponseObject, error) {
	tests, err := h.testResults(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.ListRemoteAgentEventTests200JSONResponse(tests), nil
}
