package webhook

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// timeFormat is RFC 3339 with exactly three digits of a second; for times in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Encode returns d as application/x-www-form-urlencoded, with its keys in the order of the API manual's example:
// agent_status, agent_type, event_source, agent_id, and then extension_name of a local agent or agent_number of a
// remote one. A form parser returns every value unchanged.
func Encode(d gen.AgentEventData) string {
	name, value := "extension_name", d.ExtensionName
	if d.AgentType == gen.AgentTypeRemote {
		name, value = "agent_number", d.AgentNumber
	}
	return "agent_status=" + url.QueryEscape(string(d.AgentStatus)) +
		"&agent_type=" + url.QueryEscape(string(d.AgentType)) +
		"&event_source=" + url.QueryEscape(string(d.EventSource)) + "&agent_id=" + url.QueryEscape(d.AgentID) +
		"&" + name + "=" + url.QueryEscape(value)
}

// NewRequest returns the request for a delivery, signed as of a time. userAgent, "agentevents/VERSION", is sent as it
// is. For GET the data is appended to the query of the URL; for POST it is the body. Path and query of the URL stay as
// they are to the byte, except that bytes that RFC 3986 does not allow there are percent-encoded. The fragment is
// dropped; user info becomes basic authorization. If the URL is invalid, the error is a *RefusedError.
func NewRequest(ctx context.Context, d Delivery, userAgent string, at time.Time) (*http.Request, error) {
	u, err := parseURL(d.URL)
	if err != nil {
		return nil, &RefusedError{Reason: "the URL " + err.Error()}
	}
	req, signed, err := newRequest(ctx, u, d)
	if err != nil {
		return nil, &RefusedError{Reason: "no request can be made of the URL"}
	}
	req.Header = make(http.Header, maxHeaders)
	setAuthorization(req)
	setHeaders(req.Header, d, userAgent, at)
	return req, setSignature(req.Header, d, at, signed)
}

// newRequest also returns the text to sign, which the receiver gets unchanged: the body of a POST, the whole query of a
// GET.
func newRequest(ctx context.Context, u *url.URL, d Delivery) (req *http.Request, signed string, err error) {
	form := Encode(d.Data)
	if d.Method == gen.RequestMethodGET {
		u.RawQuery = appendQuery(u.RawQuery, form)
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
		return req, u.RawQuery, err
	}
	req, err = http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form))
	return req, form, err
}

// appendQuery does not re-encode query: its owner may compare or sign it.
func appendQuery(query, pairs string) string {
	if query == "" || strings.HasSuffix(query, "&") {
		return query + pairs
	}
	return query + "&" + pairs
}

// setAuthorization moves the URL's user info to the header, as http.Client does and a transport does not.
func setAuthorization(req *http.Request) {
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
		req.URL.User = nil
	}
}

func setSignature(h http.Header, d Delivery, at time.Time, signed string) error {
	signature, err := Sign(d.WebhookID, at, signed, d.Secrets...)
	if signature != "" {
		h.Set(signatureHeader, signature)
	}
	return err
}

// signatureHeader, like the other names that are set here, is spelled as net/http writes it: another spelling would
// cost an allocation for each request.
const signatureHeader = "Webhook-Signature"

// maxHeaders is the number of headers that nearly every request stays within, so that their map need not grow.
const maxHeaders = 14

func setHeaders(h http.Header, d Delivery, userAgent string, at time.Time) {
	h.Set("Webhook-Id", d.WebhookID)
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Agentevents-Sequence", strconv.FormatInt(d.Sequence, 10))
	h.Set("Agentevents-Changed-At", d.ChangedAt.UTC().Format(timeFormat))
	h.Set("Agentevents-Attempt", strconv.Itoa(d.Attempt))
	h.Set("Agentevents-Event-Type", string(d.EventType))
	h.Set("User-Agent", userAgent)
	h.Set("Accept", "*/*") // some firewalls refuse requests without it
	if d.Method == gen.RequestMethodPOST {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if d.Epoch != "" {
		h.Set("Agentevents-Epoch", d.Epoch)
	}
	if d.Redelivery {
		h.Set("Agentevents-Replay", "true")
	}
	if d.Test {
		h.Set("Agentevents-Test", "true")
		h.Set("Agentevents-Changed-At", at.UTC().Format(timeFormat)) // there is no status change
	}
	if d.Traceparent != "" {
		h.Set("Traceparent", d.Traceparent)
	}
}
