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

// testBounds limit concurrent test deliveries: each may take as long as a receiver hangs. An operator's count as those
// of the client.
var testBounds = Bounds{All: 64, Clients: 64, PerClient: 4}

// sendTest sends a test delivery to the URL of an event, and stores its result. It completes both even if the client
// closes the connection.
func (h handlers) sendTest(
	ctx context.Context, k store.AgentKey, event int64,
) (result gen.EventTestResult, err error) {
	d, err := h.store.NewTestDelivery(ctx, k, event)
	if err != nil {
		return result, err
	}
	if h.tests.acquire(k.Client) != nil {
		return result, request.RefuseAs(http.StatusTooManyRequests, "too_many_tests",
			"too many test deliveries are in progress; try again")
	}
	defer h.tests.release(k.Client)
	ctx = context.WithoutCancel(ctx)
	traced := h.traces.TestAttempt(ctx, &d)
	attempt := h.sender.Send(ctx, d)
	traced(webhook.Outcome{Attempt: attempt})
	stored, err := h.store.SaveTestDelivery(ctx, event, k.Type, d, attempt)
	if err != nil {
		return result, err
	}
	return h.testResult(ctx, stored)
}

// testResult converts a stored test delivery to the form that the caller may see.
func (h handlers) testResult(ctx context.Context, s store.TestDelivery) (gen.EventTestResult, error) {
	at := gen.Time{Time: s.Attempt.StartedAt}
	s.Sent.URL = redactURL(ctx, s.Sent.URL)
	sent, err := h.sender.Render(s.Sent, s.Attempt.StartedAt, s.Attempt.Signature)
	return gen.EventTestResult{ID: s.ID, At: at, Request: redactRequest(ctx, sent), Attempt: gen.Attempt{
		Number: 1, StartedAt: at, DurationMs: float64(s.Attempt.Duration.Microseconds()) / 1000,
		Status: s.Attempt.Status, Verdict: string(s.Attempt.Verdict), Error: s.Attempt.Error, Answer: s.Attempt.Excerpt,
		Traceparent: s.Sent.Traceparent,
	}}, err
}

func (h handlers) testResults(ctx context.Context, k store.AgentKey, event int64) ([]gen.EventTestResult, error) {
	stored, err := h.store.TestDeliveries(ctx, k, event)
	results := make([]gen.EventTestResult, len(stored))
	for i := 0; err == nil && i < len(stored); i++ {
		results[i], err = h.testResult(ctx, stored[i])
	}
	return results, err
}

func (h handlers) TestLocalAgentEvent(
	ctx context.Context, r api.TestLocalAgentEventRequestObject,
) (api.TestLocalAgentEventResponseObject, error) {
	result, err := h.sendTest(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	return api.TestLocalAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(result)}, err
}

func (h handlers) TestRemoteAgentEvent(
	ctx context.Context, r api.TestRemoteAgentEventRequestObject,
) (api.TestRemoteAgentEventResponseObject, error) {
	result, err := h.sendTest(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	return api.TestRemoteAgentEvent200JSONResponse{EventTestJSONResponse: api.EventTestJSONResponse(result)}, err
}

func (h handlers) ListLocalAgentEventTests(
	ctx context.Context, r api.ListLocalAgentEventTestsRequestObject,
) (api.ListLocalAgentEventTestsResponseObject, error) {
	results, err := h.testResults(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	return api.ListLocalAgentEventTests200JSONResponse(results), err
}

func (h handlers) ListRemoteAgentEventTests(
	ctx context.Context, r api.ListRemoteAgentEventTestsRequestObject,
) (api.ListRemoteAgentEventTestsResponseObject, error) {
	results, err := h.testResults(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	return api.ListRemoteAgentEventTests200JSONResponse(results), err
}
