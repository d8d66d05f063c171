package api

import (
	"context"
	"strconv"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

func (h handlers) ListStatusChanges(
	ctx context.Context, r api.ListStatusChangesRequestObject,
) (api.ListStatusChangesResponseObject, error) {
	found, err := h.follow(ctx, r)
	if err != nil {
		return nil, err
	}
	var page api.ListStatusChanges200JSONResponse
	page.Body, page.Headers.AgenteventsEpoch = found.Changes, found.Epoch
	last := found.After
	if n := len(found.Changes); n > 0 {
		last = found.Changes[n-1].Sequence
	}
	page.Headers.Link = nextChanges(ctx, found.Epoch, last)
	return page, nil
}

// nextChanges is nextPage with the epoch, so that a reader who follows it notices when the numbers begin again.
func nextChanges(ctx context.Context, epoch string, after int64) *string {
	return linkTo(ctx, map[string]string{"after": strconv.FormatInt(after, 10), "epoch": epoch, "start": ""})
}

// follow waits for changes, if it is asked to and there are none, until the time is over or the server stops.
func (h handlers) follow(ctx context.Context, r api.ListStatusChangesRequestObject) (store.Feed, error) {
	p, wait := r.Params, time.Duration(valueOf(r.Params.Wait))*time.Second
	after, err := h.feedStart(ctx, r)
	if err != nil {
		return store.Feed{}, err
	}
	if p.After == nil {
		p.Epoch = nil // which says nothing then
	}
	timeout := time.After(wait)
	found, err := h.store.StatusChanges(ctx, r.ClientID, after, valueOf(p.Epoch), pageSize(p.Limit))
	for wait > 0 && err == nil && len(found.Changes) == 0 {
		next := h.store.NextChange(r.ClientID) // and then look once more, for what came before it is not announced
		found, err = h.store.StatusChanges(ctx, r.ClientID, after, valueOf(p.Epoch), pageSize(p.Limit))
		if err == nil && len(found.Changes) > 0 {
			err = request.StillAllowed(ctx) // it may have waited for long
		}
		if err != nil || len(found.Changes) > 0 {
			return found, err
		}
		select {
		case <-next:
		case <-timeout:
			return found, nil
		case <-h.stopping:
			return found, nil
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
	return found, err
}

// feedStart is the number after which a feed begins, nil for the oldest change that is kept.
func (h handlers) feedStart(ctx context.Context, r api.ListStatusChangesRequestObject) (after *int64, err error) {
	switch start := valueOf(r.Params.Start); {
	case start != "" && r.Params.After != nil:
		return nil, request.Invalid(gen.FieldError{Field: "start", Message: "must be absent when after is given"})
	case start == gen.FeedStartNewest:
		return h.store.NewestChange(ctx, r.ClientID)
	}
	return r.Params.After, nil
}

func (h handlers) agentStatusChanges(
	ctx context.Context, k store.AgentKey, before *int64, size *int,
) (page api.AgentStatusChangesJSONResponse, err error) {
	limit := pageSize(size)
	found, err := h.store.AgentStatusChanges(ctx, k, valueOf(before), limit+1)
	page.Body, page.Headers.Link = pageBefore(ctx, found, limit, func(m gen.AgentStatusChange) int64 { return m.Change.Sequence })
	return page, err
}

func (h handlers) ListLocalAgentStatusChanges(
	ctx context.Context, r api.ListLocalAgentStatusChangesRequestObject,
) (api.ListLocalAgentStatusChangesResponseObject, error) {
	page, err := h.agentStatusChanges(ctx, localKey(r.ClientID, r.AgentID), r.Params.Before, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	return api.ListLocalAgentStatusChanges200JSONResponse{AgentStatusChangesJSONResponse: page}, nil
}

func (h handlers) ListRemoteAgentStatusChanges(
	ctx context.Context, r api.ListRemoteAgentStatusChangesRequestObject,
) (api.ListRemoteAgentStatusChangesResponseObject, error) {
	page, err := h.agentStatusChanges(ctx, remoteKey(r.ClientID, r.AgentID), r.Params.Before, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	return api.ListRemoteAgentStatusChanges200JSONResponse{AgentStatusChangesJSONResponse: page}, nil
}
