package api

import (
	"context"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// checkFilter refuses a filter that contradicts itself, or that has only half of an agent's key.
func checkFilter(f store.DeliveryFilter) error {
	var wrong []gen.FieldError
	if f.AgentID > 0 && f.AgentType == "" {
		wrong = append(wrong, gen.FieldError{Field: "agent_type", Message: "is required with agent_id"})
	}
	if f.AgentType != "" && f.AgentID == 0 {
		wrong = append(wrong, gen.FieldError{Field: "agent_id", Message: "is required with agent_type"})
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		wrong = append(wrong, gen.FieldError{Field: "until", Message: "must be later than since"})
	}
	if wrong != nil {
		return request.Invalid(wrong...)
	}
	return nil
}

func (h handlers) ListDeliveries(
	ctx context.Context, r api.ListDeliveriesRequestObject,
) (api.ListDeliveriesResponseObject, error) {
	p := r.Params
	filter := store.DeliveryFilter{
		State: valueOf(p.State), AgentType: valueOf(p.AgentType), AgentID: valueOf(p.AgentID),
		EventID: valueOf(p.EventID), Since: valueOf(p.Since), Until: valueOf(p.Until),
	}
	if err := checkFilter(filter); err != nil {
		return nil, err
	}
	limit := pageSize(p.Limit)
	deliveries, err := h.store.Deliveries(ctx, r.ClientID, filter, valueOf(p.Before), limit+1)
	for i := range deliveries {
		deliveries[i] = redactDelivery(ctx, deliveries[i])
	}
	var page api.ListDeliveries200JSONResponse
	limit = min(limit, fitting(deliveries, deliverySize))
	page.Body, page.Headers.Link = pageBefore(ctx, deliveries, limit, func(d gen.Delivery) int64 { return d.ID })
	return page, err
}

// GetDelivery also returns the last request to the receiver or, before the first attempt, the request as it would be
// now.
func (h handlers) GetDelivery(
	ctx context.Context, r api.GetDeliveryRequestObject,
) (api.GetDeliveryResponseObject, error) {
	l, err := h.store.Delivery(ctx, r.ClientID, r.DeliveryID)
	if err != nil {
		return nil, err
	}
	at := l.SentAt
	if at.IsZero() {
		at = h.store.Now()
	}
	l.Sent.URL = redactURL(ctx, l.Sent.URL)
	sent, err := h.sender.Render(l.Sent, at, l.Signed)
	return api.GetDelivery200JSONResponse{DeliveryDetailJSONResponse: api.DeliveryDetailJSONResponse{
		Delivery: redactDelivery(ctx, l.Delivery), Attempts: redactAttempts(ctx, l.Attempts), Waiting: l.Waiting,
		Request: redactRequest(ctx, sent),
	}}, err
}

func (h handlers) Redeliver(ctx context.Context, r api.RedeliverRequestObject) (api.RedeliverResponseObject, error) {
	d, err := h.store.Redeliver(ctx, r.ClientID, r.DeliveryID)
	if err == nil {
		h.store.ChargeRequests(request.Caller(ctx), 1)
	}
	return api.Redeliver202JSONResponse{DeliveryAcceptedJSONResponse: api.DeliveryAcceptedJSONResponse(d)}, err
}
