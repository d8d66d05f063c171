package webhook

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The bounds of an answer, in bytes: what is read of it, and what is kept.
const (
	maxHeader  = 64 << 10
	maxBody    = 64 << 10 // as it is sent
	maxExcerpt = 1 << 10
)

// SenderOptions are the settings of a Sender. With the zero value it reaches public addresses only.
type SenderOptions struct {
	Guard     *Guard            // nil: public addresses only
	Timeout   time.Duration     // of a whole exchange, from resolving the name to the end of the body; 0: 10 s
	UserAgent string            // "agentevents/VERSION"; empty: "agentevents"
	Transport http.RoundTripper // instead of the guarded one, for tests; nil: the guarded one
}

// Sender makes attempts. It is safe for concurrent use and keeps connections open for later attempts.
type Sender struct {
	timeout   time.Duration
	userAgent string
	transport http.RoundTripper
}

// NewSender returns a sender. Close it when it is no longer needed.
func NewSender(o SenderOptions) *Sender {
	s := &Sender{
		timeout:   cmp.Or(o.Timeout, 10*time.Second),
		userAgent: cmp.Or(o.UserAgent, "agentevents"),
		transport: o.Transport,
	}
	if s.transport == nil {
		guard := cmp.Or(o.Guard, NewGuard(GuardOptions{}))
		dialer := &net.Dialer{Timeout: s.timeout + time.Second, Resolver: ownResolver()}
		s.transport = newRotatingTransport(dialer, guard)
	}
	return s
}

// ownResolver is Go's own: those of C libraries do not find a name with a dot at its end in the file of hosts.
func ownResolver() *net.Resolver { return &net.Resolver{PreferGo: true} }

// Render returns the request that was sent for a delivery at a time, with its signature. If signature is empty, it
// signs the request that would be sent. An invalid URL is shown as it is.
func (s *Sender) Render(d Delivery, at time.Time, signature string) (gen.SentRequest, error) {
	return render(d, s.userAgent, at, signature)
}

// Timeout returns the longest that Send takes.
func (s *Sender) Timeout() time.Duration { return s.timeout }

// Close closes the connections that are kept open for later attempts. It does not affect attempts in flight.
func (s *Sender) Close() {
	if t, ok := s.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Send makes one attempt. If the answer is not complete within the timeout, body included, Error has the reason,
// whatever the status was. Send does not wait for the part of a body beyond 64 KiB, and follows no redirect.
//
// If ctx ends first, the attempt is CutOff. If the delivery's lease ends before the request is written, nothing is
// written, and the attempt is LeaseOver. Neither is a failure of the receiver.
//
// An attempt is one request, with one exception: a connection that was kept open may turn out to be closed, and
// whether the receiver has read the request cannot be known then. Send resends it once at most, on a new connection,
// with the same webhook-id and signature.
func (s *Sender) Send(ctx context.Context, d Delivery) Attempt {
	attempt := Attempt{StartedAt: time.Now()}
	exchange, cancel := context.WithTimeoutCause(ctx, s.timeout, timeoutError(s.timeout))
	defer cancel()
	err := s.exchange(exchange, d, &attempt)
	if err != nil {
		err = ended(ctx, exchange, err)
		attempt.Error, attempt.Detail = describe(err), detail(err)
		attempt.CutOff, attempt.LeaseOver = errors.Is(err, errCutOff), errors.Is(err, errLeaseOver)
	}
	attempt.Verdict = d.judge(attempt.Status, err)
	attempt.Duration = time.Since(attempt.StartedAt)
	return attempt
}

// ended returns the cause of err if one of the contexts has ended, and otherwise err.
func ended(caller, exchange context.Context, err error) error {
	switch {
	case caller.Err() != nil:
		return errCutOff
	case exchange.Err() != nil:
		return context.Cause(exchange)
	}
	return err
}

// exchange sends the request, and stores signature, status and answer in attempt.
func (s *Sender) exchange(ctx context.Context, d Delivery, attempt *Attempt) error {
	u, inUse := newUse(ctx, d.Lease)
	req, err := NewRequest(inUse, d, s.userAgent, attempt.StartedAt)
	if err != nil {
		return err
	}
	attempt.Signature = req.Header.Get(signatureHeader)
	resp, err := s.roundTrip(ctx, u, req, d.Lease)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	attempt.Status = resp.StatusCode
	attempt.RetryAfter = retryAfter(resp)
	attempt.Excerpt, err = readBody(resp)
	return err
}

// roundTrip resends a request once if the kept connection that it was sent on gave no answer, or only one that was
// there before the request.
func (s *Sender) roundTrip(ctx context.Context, u *use, req *http.Request, lease time.Time) (*http.Response, error) {
	resp, err := s.transport.RoundTrip(req)
	err = u.reason(err)
	keeping, ok := s.transport.(*rotatingTransport)
	if !ok || !u.stale() || ctx.Err() != nil || errors.Is(err, errLeaseOver) {
		return resp, err
	}
	if err == nil {
		resp.Body.Close()
	}
	again, inUse := newUse(ctx, lease)
	resp, err = keeping.resend(req.WithContext(inUse))
	return resp, again.reason(err)
}

// retryAfter returns the delay that the receiver asked for, 0 unless the status itself means Retry. An answer that only
// Delivery.DeployingUntil makes a Retry sets no delay.
func retryAfter(resp *http.Response) time.Duration {
	if Judge(resp.StatusCode, nil) != Retry {
		return 0
	}
	return parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
}
