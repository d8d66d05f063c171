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
	if isReadOnly(ctx) {
		return stripURL(raw)
	}
	return raw
}

func isReadOnly(ctx context.Context) bool {
	return request.Caller(ctx).Access == gen.AccessLevelReadOnly
}

// stripURL returns scheme, host and port of a URL. A URL without them is empty.
func stripURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

// redactRequest removes the signature of a request, if the caller has access level read_only: with the signature a
// caller could send the request without the secret.
func redactRequest(ctx context.Context, r gen.SentRequest) gen.SentRequest {
	if isReadOnly(ctx) {
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
	if d.LastAttempt != nil {
		last := redactAttempt(ctx, *d.LastAttempt)
		d.LastAttempt = &last
	}
	return d
}

// redactAttempt removes the receiver's answer, if the caller has access level read_only: many servers quote the path
// that they do not know.
func redactAttempt(ctx context.Context, a gen.Attempt) gen.Attempt {
	a.URL = redactURL(ctx, a.URL)
	if isReadOnly(ctx) {
		a.Answer = ""
	}
	return a
}

func redactAttempts(ctx context.Context, attempts []gen.Attempt) []gen.Attempt {
	for i := range attempts {
		attempts[i] = redactAttempt(ctx, attempts[i])
	}
	return attempts
}
