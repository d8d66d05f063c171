package main

import (
	"context"
	"net/url"
	"strings"

	"github.com/agentevents/agentevents/gen"
)

// shownURL is a receiver's URL as the caller may see it: who may only read does not see what may be secret in it.
func shownURL(ctx context.Context, raw string) string {
	if callerOf(ctx).Access == gen.AccessLevelReadOnly {
		return redact(raw)
	}
	return raw
}

// redacted stands for what is not shown.
const redacted = "xxxxx"

// redact takes the user and the query out of a URL.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(redacted)
	}
	if u.RawQuery != "" {
		u.RawQuery = redacted
	}
	return u.String()
}

// shownRequest is without what it is signed with for who may only read: it would do as well as the secret.
func shownRequest(ctx context.Context, r gen.SentRequest) gen.SentRequest {
	if callerOf(ctx).Access == gen.AccessLevelReadOnly {
		r.Curl = strings.Replace(r.Curl, " -H 'webhook-signature: "+r.Headers["webhook-signature"]+"'", "", 1)
		delete(r.Headers, "webhook-signature")
	}
	return r
}

func shownEvent(ctx context.Context, e gen.AgentEvent) gen.AgentEvent {
	e.URL = shownURL(ctx, e.URL)
	return e
}

func shownEvents(ctx context.Context, events []gen.AgentEvent) []gen.AgentEvent {
	for i := range events {
		events[i] = shownEvent(ctx, events[i])
	}
	return events
}

func shownDelivery(ctx context.Context, d gen.Delivery) gen.Delivery {
	d.URL = shownURL(ctx, d.URL)
	return d
}
