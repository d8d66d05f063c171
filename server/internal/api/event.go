package api

import (
	"context"
	"strconv"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// checkURL refuses a URL to which no delivery could be sent. It accepts nil: an update may omit the URL.
func (h handlers) checkURL(url *string) error {
	if url == nil {
		return nil
	}
	if err := h.guard.CheckURL(*url); err != nil {
		return request.Invalid(gen.FieldError{Field: "url", Message: err.Error()})
	}
	return nil
}

// events returns a page of an agent's events, and the link to the next page.
func (h handlers) events(
	ctx context.Context, k store.AgentKey, p gen.ListLocalAgentEventsParams,
) ([]gen.AgentEvent, *string, error) {
	events, err := h.store.Events(ctx, k, valueOf(p.After), limitPlusOne(p.Limit))
	id := func(e gen.AgentEvent) string { return strconv.FormatInt(e.ID, 10) }
	page, next := pageAfter(ctx, events, p.Limit, id)
	return redactEvents(ctx, page), next, err
}

func (h handlers) createEvent(
	ctx context.Context, k store.AgentKey, c gen.AgentEventCreate,
) (e gen.AgentEvent, err error) {
	if err := h.checkURL(&c.URL); err != nil {
		return e, err
	}
	return h.store.CreateEvent(ctx, k, c)
}

func (h handlers) event(ctx context.Context, k store.AgentKey, id int64) (gen.AgentEvent, error) {
	e, err := h.store.Event(ctx, k, id)
	return redactEvent(ctx, e), err
}

func (h handlers) updateEvent(
	ctx context.Context, k store.AgentKey, id int64, u gen.AgentEventUpdate,
) (e gen.AgentEvent, err error) {
	if err := h.checkURL(u.URL); err != nil {
		return e, err
	}
	return h.store.UpdateEvent(ctx, k, id, u)
}

func (h handlers) ListLocalAgentEvents(
	ctx context.Context, r api.ListLocalAgentEventsRequestObject,
) (api.ListLocalAgentEventsResponseObject, error) {
	events, next, err := h.events(ctx, localKey(r.ClientID, r.AgentID), r.Params)
	return api.ListLocalAgentEvents200JSONResponse{
		Body: events, Headers: api.ListLocalAgentEvents200ResponseHeaders{Link: next},
	}, err
}

func (h handlers) ListRemoteAgentEvents(
	ctx context.Context, r api.ListRemoteAgentEventsRequestObject,
) (api.ListRemoteAgentEventsResponseObject, error) {
	events, next, err := h.events(ctx, remoteKey(r.ClientID, r.AgentID), gen.ListLocalAgentEventsParams(r.Params))
	return api.ListRemoteAgentEvents200JSONResponse{
		Body: events, Headers: api.ListRemoteAgentEvents200ResponseHeaders{Link: next},
	}, err
}

func (h handlers) CreateLocalAgentEvent(
	ctx context.Context, r api.CreateLocalAgentEventRequestObject,
) (api.CreateLocalAgentEventResponseObject, error) {
	e, err := h.createEvent(ctx, localKey(r.ClientID, r.AgentID), *r.Body)
	return api.CreateLocalAgentEvent201JSONResponse{
		LocalAgentEventCreatedJSONResponse: api.LocalAgentEventCreatedJSONResponse(e),
	}, err
}

func (h handlers) CreateRemoteAgentEvent(
	ctx context.Context, r api.CreateRemoteAgentEventRequestObject,
) (api.CreateRemoteAgentEventResponseObject, error) {
	e, err := h.createEvent(ctx, remoteKey(r.ClientID, r.AgentID), *r.Body)
	return api.CreateRemoteAgentEvent201JSONResponse{
		RemoteAgentEventCreatedJSONResponse: api.RemoteAgentEventCreatedJSONResponse(e),
	}, err
}

func (h handlers) GetLocalAgentEvent(
	ctx context.Context, r api.GetLocalAgentEventRequestObject,
) (api.GetLocalAgentEventResponseObject, error) {
	e, err := h.event(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	return api.GetLocalAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(e)}, err
}

func (h handlers) GetRemoteAgentEvent(
	ctx context.Context, r api.GetRemoteAgentEventRequestObject,
) (api.GetRemoteAgentEventResponseObject, error) {
	e, err := h.event(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	return api.GetRemoteAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(e)}, err
}

func (h handlers) UpdateLocalAgentEvent(
	ctx context.Context, r api.UpdateLocalAgentEventRequestObject,
) (api.UpdateLocalAgentEventResponseObject, error) {
	e, err := h.updateEvent(ctx, localKey(r.ClientID, r.AgentID), r.EventID, *r.Body)
	return api.UpdateLocalAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(e)}, err
}

func (h handlers) UpdateRemoteAgentEvent(
	ctx context.Context, r api.UpdateRemoteAgentEventRequestObject,
) (api.UpdateRemoteAgentEventResponseObject, error) {
	e, err := h.updateEvent(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID, *r.Body)
	return api.UpdateRemoteAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(e)}, err
}

func (h handlers) DeleteLocalAgentEvent(
	ctx context.Context, r api.DeleteLocalAgentEventRequestObject,
) (api.DeleteLocalAgentEventResponseObject, error) {
	err := h.store.DeleteEvent(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	return api.DeleteLocalAgentEvent204Response{}, err
}

func (h handlers) DeleteRemoteAgentEvent(
	ctx context.Context, r api.DeleteRemoteAgentEventRequestObject,
) (api.DeleteRemoteAgentEventResponseObject, error) {
	err := h.store.DeleteEvent(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	return api.DeleteRemoteAgentEvent204Response{}, err
}
