package api

import (
	"context"
	"net/url"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
)

// redactURL returns a receiver's URL without its secret parts, if the caller has access level read_only.
func redactURL(ctx context.Context, raw string) string {
	if request.Caller(ctx).Access == gen.AccessLevelReadOnly {
		return stripURL(raw)
	}
	return raw
}

// redactedText replaces redacted text.
const redactedText = "xxxxx"

// stripURL replaces the user and the query of a URL.
func stripURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return redactedText
	}
	if u.User != nil {
		u.User = url.User(redactedText)
	}
	if u.RawQuery != "" {
		u.RawQuery = redactedText
	}
	return u.String()
}

// redactRequest removes the signature of a request, if the caller has access level read_only: with the signature a
// caller could send the request without the secret.
func redactRequest(ctx context.Context, r gen.SentRequest) gen.SentRequest {
	if request.Caller(ctx).Access == gen.AccessLevelReadOnly {
		r.Curl = strings.Replace(r.Curl, " -H 'webhook-signature: "+r.Headers["webhook-signature"]+"'", "", 1)
		delete(r.Headers, "webhook-signature")
	}
	return r
}

func redactEvent(ctx context.Context, e gen.AgentEvent) gen.AgentEvent {
	e.URL = redactURL(ctx, e.URL)
	return e
}

func redactEvents(ctx context.Context, events []gen.AgentEvent) []gen.AgentEvent {
	for i := range events {
		events[i] = redactEvent(ctx, events[i])
	}
	return events
}

func redactDelivery(ctx context.Context, d gen.Delivery) gen.Delivery {
	d.URL = redactURL(ctx, d.URL)
	return d
}
