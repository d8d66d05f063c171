package api

import (
	"context"
	"fmt"
	"net/url"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// replayFilter converts a filter to the store's. Without a state, it selects failed deliveries.
func replayFilter(b gen.ReplayFilter) store.DeliveryFilter {
	f := store.DeliveryFilter{
		State: gen.DeliveryState(b.State), AgentType: b.AgentType, AgentID: b.AgentID, EventID: b.EventID,
	}
	if f.State == "" {
		f.State = gen.DeliveryStateFailed
	}
	if b.Since != nil {
		f.Since = b.Since.Time
	}
	if b.Until != nil {
		f.Until = b.Until.Time
	}
	return f
}

func (h handlers) RedeliverMany(
	ctx context.Context, r api.RedeliverManyRequestObject,
) (api.RedeliverManyResponseObject, error) {
	filter := replayFilter(*r.Body)
	if err := checkFilter(filter); err != nil {
		return nil, err
	}
	replay, created, err := h.store.CreateReplay(ctx, r.ClientID, filter)
	if created {
		h.store.ChargeRequests(request.Caller(ctx), replay.Total)
	}
	var accepted api.RedeliverMany202JSONResponse
	accepted.Body = replay
	accepted.Headers.Location = fmt.Sprintf("%s/client/%s/replay/%d",
		contract.BasePath, url.PathEscape(r.ClientID), replay.ID)
	return accepted, err
}

func (h handlers) ListReplays(
	ctx context.Context, r api.ListReplaysRequestObject,
) (api.ListReplaysResponseObject, error) {
	limit := pageSize(r.Params.Limit)
	replays, err := h.store.Replays(ctx, r.ClientID, valueOf(r.Params.Before), limit+1)
	var page api.ListReplays200JSONResponse
	page.Body, page.Headers.Link = pageBefore(ctx, replays, limit, func(m gen.Replay) int64 { return m.ID })
	return page, err
}

func (h handlers) GetReplay(ctx context.Context, r api.GetReplayRequestObject) (api.GetReplayResponseObject, error) {
	replay, err := h.store.Replay(ctx, r.ClientID, r.ReplayID)
	return api.GetReplay200JSONResponse{ReplayJSONResponse: api.ReplayJSONResponse(replay)}, err
}
