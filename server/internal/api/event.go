package api

import (
	"context"
	"strconv"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// checkURL refuses a URL that can never be sent to. One that is not given is not wrong.
func (h handlers) checkURL(url *string) error {
	if url == nil {
		return nil
	}
	if err := h.guard.CheckURL(*url); err != nil {
		return request.Invalid(gen.FieldError{Field: "url", Message: err.Error()})
	}
	return nil
}

func eventID(e gen.AgentEvent) string { return strconv.FormatInt(e.ID, 10) }

func (h handlers) createEvent(
	ctx context.Context, k store.AgentKey, c gen.AgentEventCreate,
) (e api.AgentEventJSONResponse, err error) {
	if err := h.checkURL(&c.URL); err != nil {
		return e, err
	}
	event, err := h.store.CreateEvent(ctx, k, c)
	return api.AgentEventJSONResponse(event), err
}

func (h handlers) updateEvent(
	ctx context.Context, k store.AgentKey, id int64, u gen.AgentEventUpdate,
) (e api.AgentEventJSONResponse, err error) {
	if err := h.checkURL(u.URL); err != nil {
		return e, err
	}
	event, err := h.store.UpdateEvent(ctx, k, id, u)
	return api.AgentEventJSONResponse(event), err
}

func (h handlers) ListLocalAgentEvents(
	ctx context.Context, r api.ListLocalAgentEventsRequestObject,
) (api.ListLocalAgentEventsResponseObject, error) {
	es, err := h.store.Events(ctx, localKey(r.ClientID, r.AgentID), valueOf(r.Params.After), limitPlusOne(r.Params.Limit))
	if err != nil {
		return nil, err
	}
	es, next := pageAfter(ctx, es, r.Params.Limit, eventID)
	page := api.ListLocalAgentEvents200JSONResponse{Body: redactEvents(ctx, es)}
	page.Headers.Link = next
	return page, nil
}

func (h handlers) ListRemoteAgentEvents(
	ctx context.Context, r api.ListRemoteAgentEventsRequestObject,
) (api.ListRemoteAgentEventsResponseObject, error) {
	es, err := h.store.Events(ctx, remoteKey(r.ClientID, r.AgentID), valueOf(r.Params.After), limitPlusOne(r.Params.Limit))
	if err != nil {
		return nil, err
	}
	es, next := pageAfter(ctx, es, r.Params.Limit, eventID)
	page := api.ListRemoteAgentEvents200JSONResponse{Body: redactEvents(ctx, es)}
	page.Headers.Link = next
	return page, nil
}

func (h handlers) CreateLocalAgentEvent(
	ctx context.Context, r api.CreateLocalAgentEventRequestObject,
) (api.CreateLocalAgentEventResponseObject, error) {
	e, err := h.createEvent(ctx, localKey(r.ClientID, r.AgentID), *r.Body)
	if err != nil {
		return nil, err
	}
	return api.CreateLocalAgentEvent201JSONResponse{LocalAgentEventCreatedJSONResponse: api.LocalAgentEventCreatedJSONResponse(e)}, nil
}

func (h handlers) CreateRemoteAgentEvent(
	ctx context.Context, r api.CreateRemoteAgentEventRequestObject,
) (api.CreateRemoteAgentEventResponseObject, error) {
	e, err := h.createEvent(ctx, remoteKey(r.ClientID, r.AgentID), *r.Body)
	if err != nil {
		return nil, err
	}
	return api.CreateRemoteAgentEvent201JSONResponse{RemoteAgentEventCreatedJSONResponse: api.RemoteAgentEventCreatedJSONResponse(e)}, nil
}

func (h handlers) GetLocalAgentEvent(
	ctx context.Context, r api.GetLocalAgentEventRequestObject,
) (api.GetLocalAgentEventResponseObject, error) {
	e, err := h.store.Event(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.GetLocalAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(redactEvent(ctx, e))}, nil
}

func (h handlers) GetRemoteAgentEvent(
	ctx context.Context, r api.GetRemoteAgentEventRequestObject,
) (api.GetRemoteAgentEventResponseObject, error) {
	e, err := h.store.Event(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	if err != nil {
		return nil, err
	}
	return api.GetRemoteAgentEvent200JSONResponse{AgentEventJSONResponse: api.AgentEventJSONResponse(redactEvent(ctx, e))}, nil
}

func (h handlers) UpdateLocalAgentEvent(
	ctx context.Context, r api.UpdateLocalAgentEventRequestObject,
) (api.UpdateLocalAgentEventResponseObject, error) {
	e, err := h.updateEvent(ctx, localKey(r.ClientID, r.AgentID), r.EventID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.UpdateLocalAgentEvent200JSONResponse{AgentEventJSONResponse: e}, nil
}

func (h handlers) UpdateRemoteAgentEvent(
	ctx context.Context, r api.UpdateRemoteAgentEventRequestObject,
) (api.UpdateRemoteAgentEventResponseObject, error) {
	e, err := h.updateEvent(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.UpdateRemoteAgentEvent200JSONResponse{AgentEventJSONResponse: e}, nil
}

func (h handlers) DeleteLocalAgentEvent(
	ctx context.Context, r api.DeleteLocalAgentEventRequestObject,
) (api.DeleteLocalAgentEventResponseObject, error) {
	if err := h.store.DeleteEvent(ctx, localKey(r.ClientID, r.AgentID), r.EventID); err != nil {
		return nil, err
	}
	return api.DeleteLocalAgentEvent204Response{}, nil
}

func (h handlers) DeleteRemoteAgentEvent(
	ctx context.Context, r api.DeleteRemoteAgentEventRequestObject,
) (api.DeleteRemoteAgentEventResponseObject, error) {
	if err := h.store.DeleteEvent(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID); err != nil {
		return nil, err
	}
	return api.DeleteRemoteAgentEvent204Response{}, nil
}
