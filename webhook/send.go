package webhook

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/agentevents/agentevents/gen"
)

// The bounds of what a receiver can make us read and keep, in bytes.
const (
	maxHeader  = 64 << 10
	maxBody    = 64 << 10 // after decompression
	maxExcerpt = 1 << 10
)

// SenderOptions are what a Sender may be given; the zero value is one that reaches public addresses only.
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
		guard := cmp.Or(o.Guard, NewGuard(nil))
		s.transport = newRenewing(&net.Dialer{Timeout: s.timeout + time.Second, Control: guard.Control})
	}
	return s
}

// newTransport speaks HTTP/1.1 alone, where one exchange cannot hold up another on the same connection, and knows
// no proxy. A dial outlives the exchange that asked for it, to serve the next one, hence a limit of its own: the
// dialer's, longer than an exchange, for connecting and for the TLS handshake.
func newTransport(r *renewing) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:              protocols,
		DialContext:            r.dial,
		TLSHandshakeTimeout:    r.dialer.Timeout,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    32,  // as many as there are attempts at one receiver
		MaxConnsPerHost:        256, // a hard stop: the dispatcher's slots are meant to be the tighter bound
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// mostDials is how many connections one transport opens, or tries to.
const mostDials = 1 << 12

// renewing is a transport that gives way to a new one after some dials: net/http's keeps a request of each address where
// no connection was ever left over for another, which is each that is dead, for as long as it is in use itself.
type renewing struct {
	dialer *net.Dialer

	mu    sync.Mutex
	now   *http.Transport
	dials int
}

func newRenewing(dialer *net.Dialer) *renewing {
	r := &renewing{dialer: dialer}
	r.now = newTransport(r)
	return r
}

func (r *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.current().RoundTrip(req)
}

func (r *renewing) CloseIdleConnections() { r.current().CloseIdleConnections() }

func (r *renewing) current() *http.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials >= mostDials {
		r.now.CloseIdleConnections() // those in use end with their exchange
		r.now, r.dials = newTransport(r), 0
	}
	return r.now
}

func (r *renewing) dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	r.mu.Unlock()
	conn, err := r.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &punctual{Conn: conn}, nil
}

// Render returns what a receiver was sent for a delivery at a time, signed as it was, or with an empty signature what it
// would be sent. A URL that cannot be sent to is shown as it is.
func (s *Sender) Render(d Delivery, at time.Time, signature string) (gen.SentRequest, error) {
	return render(d, s.userAgent, at, signature)
}

// Timeout returns the longest that Send takes.
func (s *Sender) Timeout() time.Duration { return s.timeout }

// Close closes the connections that are kept open for later attempts. Those in use are not touched.
func (s *Sender) Close() {
	if t, ok := s.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Send makes one attempt. Without a complete answer within the timeout, body included, Error says why, whatever the
// status was; of a body longer than 64 KiB the rest is not waited for. A redirect is an answer like any other.
//
// When ctx ends first, the attempt is cut off and says nothing of the receiver. Callers tell that by
//
//	ctx.Err() != nil && attempt.Error != ""
//
// When the delivery's lease is over, nothing is written any more, which is a failure like any other. A connection that was
// kept open and turns out to be closed is no failure: the request goes out anew, within the same attempt and under the same
// webhook-id.
func (s *Sender) Send(ctx context.Context, d Delivery) Attempt {
	attempt := Attempt{StartedAt: time.Now()}
	exchange, cancel := context.WithTimeoutCause(ctx, s.timeout, timeoutError(s.timeout))
	defer cancel()
	err := s.exchange(exchange, d, &attempt)
	if err != nil {
		err = ended(ctx, exchange, err)
		attempt.Error = describe(err)
	}
	attempt.Verdict = Judge(attempt.Status, err)
	if attempt.Verdict == Failed && deploying(attempt.Status) && time.Now().Before(d.DeployingUntil) {
		attempt.Verdict = Retry
	}
	attempt.Duration = time.Since(attempt.StartedAt)
	return attempt
}

// ended returns the reason for err when it lies with one of the contexts, and else err.
func ended(caller, exchange context.Context, err error) error {
	switch {
	case caller.Err() != nil:
		return errCutOff
	case exchange.Err() != nil:
		return context.Cause(exchange)
	}
	return err
}

// exchange notes in attempt what it learns from the answer.
func (s *Sender) exchange(ctx context.Context, d Delivery, attempt *Attempt) error {
	req, err := NewRequest(punctually(ctx, d.Lease), d, s.userAgent, attempt.StartedAt)
	if err != nil {
		return err
	}
	attempt.Signature = req.Header.Get(signatureHeader)
	req.Header["Idempotency-Key"] = nil // not sent: tells net/http that a POST too may go out anew, see Send
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	attempt.Status = resp.StatusCode
	attempt.RetryAfter = retryAfter(resp)
	attempt.Excerpt, err = readBody(resp)
	return err
}

// retryAfter returns what the receiver asked for, 0 unless there will be a retry.
func retryAfter(resp *http.Response) time.Duration {
	if Judge(resp.StatusCode, nil) != Retry {
		return 0
	}
	return parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
}

// readBody returns the beginning of the body and reads on, up to the bound, so that the connection can be used
// again. After a 1xx there is no body but the bare connection.
func readBody(resp *http.Response) (string, error) {
	if resp.StatusCode < 200 || resp.Body == http.NoBody {
		return "", nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt+utf8.UTFMax))
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, maxBody-int64(len(head)))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return excerpt(head), err
}

// excerpt returns at most maxExcerpt bytes of valid UTF-8 without control characters but tabs and line ends.
func excerpt(head []byte) string {
	text := strings.Map(printable, strings.ToValidUTF8(string(head), string(utf8.RuneError)))
	end := min(len(text), maxExcerpt)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

func printable(r rune) rune {
	if unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) {
		return utf8.RuneError
	}
	return r
}
