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
	feed, err := h.follow(ctx, r)
	if err != nil {
		return nil, err
	}
	last := feed.After
	if n := len(feed.Changes); n > 0 {
		last = feed.Changes[n-1].Sequence
	}
	var page api.ListStatusChanges200JSONResponse
	page.Body, page.Headers.AgenteventsEpoch = feed.Changes, feed.Epoch
	page.Headers.Link = nextChanges(ctx, feed.Epoch, last)
	return page, nil
}

// nextChanges returns the link to the changes after a number. Its epoch lets the server detect a restored store, whose
// numbers begin again.
func nextChanges(ctx context.Context, epoch string, after int64) *string {
	return linkTo(ctx, map[string]string{"after": strconv.FormatInt(after, 10), "epoch": epoch, "start": ""})
}

// follow returns the changes after the start that a reader names. If there are none, it waits until there are some, the
// time given by wait is over, or the server stops. It does not wait if too many polls do. Tests find waiting polls by
// the name of this method in the stacks of goroutines (servertest.WaitingPolls).
func (h handlers) follow(ctx context.Context, r api.ListStatusChangesRequestObject) (feed store.Feed, err error) {
	after, err := h.feedStart(ctx, r)
	if err != nil {
		return store.Feed{}, err
	}
	epoch := valueOf(r.Params.Epoch)
	if r.Params.After == nil {
		epoch = "" // an epoch is meaningful only with a number
	}
	read := func() (page store.Feed, err error) {
		err = h.inTurn(ctx, pageSize(r.Params.Limit), func() error {
			page, err = h.store.StatusChanges(ctx, r.ClientID, after, epoch, pageSize(r.Params.Limit))
			return err
		})
		return page, err
	}
	wait := time.Duration(valueOf(r.Params.Wait)) * time.Second
	timeout := time.After(wait)
	feed, err = read()
	if wait == 0 || err != nil || len(feed.Changes) > 0 || !h.startWait(ctx) {
		return feed, err
	}
	defer h.endWait(ctx)
	for {
		next := h.store.NextChange(r.ClientID)
		feed, err = read() // NextChange does not signal earlier changes
		if err == nil && len(feed.Changes) > 0 {
			err = request.Recheck(ctx) // the caller may have lost its access during the wait
		}
		if err != nil || len(feed.Changes) > 0 {
			return feed, err
		}
		select {
		case <-next:
		case <-timeout:
			return feed, nil
		case <-h.stopping:
			return feed, nil
		case <-ctx.Done():
			return feed, ctx.Err()
		}
	}
}

// feedStart returns the number after which the feed begins, nil for the oldest stored change.
func (h handlers) feedStart(ctx context.Context, r api.ListStatusChangesRequestObject) (after *int64, err error) {
	switch start := valueOf(r.Params.Start); {
	case start != "" && r.Params.After != nil:
		return nil, request.Invalid(gen.FieldError{Field: "start", Message: "must not be given together with after"})
	case start == gen.FeedStartNewest:
		var newest int64
		err = h.inTurn(ctx, 1, func() (err error) {
			newest, err = h.store.NewestChange(ctx, r.ClientID)
			return err
		})
		return &newest, err
	}
	return r.Params.After, nil
}

// agentChanges returns a page of an agent's changes. Each has its outcome for every event that the agent had then.
func (h handlers) agentChanges(
	ctx context.Context, k store.AgentKey, p gen.ListLocalAgentStatusChangesParams,
) (page api.AgentStatusChangesJSONResponse, err error) {
	changes, more, err := h.store.AgentStatusChanges(ctx, k, valueOf(p.Before), pageSize(p.Limit))
	page.Body = changes
	if more {
		oldest := changes[len(changes)-1].Change.Sequence
		page.Headers.Link = linkTo(ctx, map[string]string{"before": strconv.FormatInt(oldest, 10)})
	}
	return page, err
}

func (h handlers) ListLocalAgentStatusChanges(
	ctx context.Context, r api.ListLocalAgentStatusChangesRequestObject,
) (api.ListLocalAgentStatusChangesResponseObject, error) {
	page, err := h.agentChanges(ctx, localKey(r.ClientID, r.AgentID), r.Params)
	return api.ListLocalAgentStatusChanges200JSONResponse{AgentStatusChangesJSONResponse: page}, err
}

func (h handlers) ListRemoteAgentStatusChanges(
	ctx context.Context, r api.ListRemoteAgentStatusChangesRequestObject,
) (api.ListRemoteAgentStatusChangesResponseObject, error) {
	params := gen.ListLocalAgentStatusChangesParams(r.Params)
	page, err := h.agentChanges(ctx, remoteKey(r.ClientID, r.AgentID), params)
	return api.ListRemoteAgentStatusChanges200JSONResponse{AgentStatusChangesJSONResponse: page}, err
}
