package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentevents/agentevents/gen"
)

// timeFormat is RFC 3339 with exactly three digits of a second; for times in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Encode returns d as application/x-www-form-urlencoded, with its keys in the order of the API manual's example:
// agent_status, agent_type, event_source, agent_id, and then extension_name of a local agent or agent_number of a
// remote one. Whatever the values hold, a form parser gets them back unchanged.
func Encode(d gen.AgentEventData) string {
	name, value := "extension_name", d.ExtensionName
	if d.AgentType == gen.AgentTypeRemote {
		name, value = "agent_number", d.AgentNumber
	}
	pairs := []string{
		pair("agent_status", string(d.AgentStatus)),
		pair("agent_type", string(d.AgentType)),
		pair("event_source", string(d.EventSource)),
		pair("agent_id", d.AgentID),
		pair(name, value),
	}
	return strings.Join(pairs, "&")
}

func pair(key, value string) string { return key + "=" + url.QueryEscape(value) }

// NewRequest returns the request that carries d, stamped and signed as of a time. userAgent is sent as it is,
// "agentevents/VERSION". For GET the data is appended to the query that the URL has, which stays as it was to the
// byte, but that what is not ASCII is percent-encoded; for POST it is the body, and the URL's query is left alone. The
// fragment is dropped, user info becomes basic authorization. A URL that cannot be sent to is a *RefusedError.
func NewRequest(ctx context.Context, d Delivery, userAgent string, at time.Time) (*http.Request, error) {
	u, err := parseURL(d.URL)
	if err != nil {
		return nil, &RefusedError{Reason: "the URL " + err.Error()}
	}
	req, err := newRequest(ctx, u, d)
	if err != nil {
		return nil, &RefusedError{Reason: "no request can be made of the URL"}
	}
	setAuthorization(req)
	setHeaders(req.Header, d, userAgent, at)
	return req, setSignature(req, d, at)
}

func newRequest(ctx context.Context, u *url.URL, d Delivery) (*http.Request, error) {
	form := Encode(d.Data)
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery = ascii(u.RawQuery)
	if d.Method == gen.MethodGET {
		u.RawQuery = appendQuery(u.RawQuery, form)
		return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// ascii percent-encodes the bytes that a request line cannot hold (RFC 3986, section 2).
func ascii(query string) string {
	var b strings.Builder
	for _, c := range []byte(query) {
		if c < utf8.RuneSelf {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// appendQuery does not re-encode query: its owner may compare or sign it.
func appendQuery(query, pairs string) string {
	if query == "" || strings.HasSuffix(query, "&") {
		return query + pairs
	}
	return query + "&" + pairs
}

// setAuthorization moves the URL's user info to where a receiver looks for it: http.Client does so, a transport
// does not.
func setAuthorization(req *http.Request) {
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
		req.URL.User = nil
	}
}

// setSignature signs what the receiver has in hand: the body of a POST, the whole query string of a GET.
func setSignature(req *http.Request, d Delivery, at time.Time) error {
	content := req.URL.RawQuery
	if d.Method == gen.MethodPOST {
		content = Encode(d.Data)
	}
	signature, err := Sign(d.WebhookID, at, content, d.Secrets...)
	if signature != "" {
		req.Header.Set("webhook-signature", signature)
	}
	return err
}

func setHeaders(h http.Header, d Delivery, userAgent string, at time.Time) {
	h.Set("webhook-id", d.WebhookID)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("agentevents-sequence", strconv.FormatInt(d.Sequence, 10))
	h.Set("agentevents-changed-at", d.ChangedAt.UTC().Format(timeFormat))
	h.Set("agentevents-attempt", strconv.Itoa(d.Attempt))
	h.Set("agentevents-event-type", string(d.EventType))
	h.Set("User-Agent", userAgent)
	if d.Epoch != "" {
		h.Set("agentevents-epoch", d.Epoch)
	}
	if d.Replay {
		h.Set("agentevents-replay", "true")
	}
	if d.Test {
		h.Set("agentevents-test", "true")
		h.Set("agentevents-changed-at", at.UTC().Format(timeFormat)) // nothing has changed but now
	}
	if d.Traceparent != "" {
		h.Set("traceparent", d.Traceparent)
	}
}
