package webhook

import (
	"context"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// Delivery is one event on its way to one registered URL, as an outbox hands it out for one attempt.
type Delivery struct {
	ID        int64
	WebhookID string // unique for ever; the same on every attempt
	Lane      int64
	Claim     int64     // fences what is recorded: a later claim of the lane makes this one void
	Lease     time.Time // until when the lane is held, by this process's monotonic clock
	Receiver  int64     // the receiver's row: client, scheme, host and port
	URL       string
	Method    gen.RequestMethod
	EventType gen.EventType
	Sequence  int64     // of the status change, 1 and up
	Epoch     string    // that sequence numbers are of now; empty for none
	ChangedAt time.Time // of the status change
	CreatedAt time.Time // when the status change was stored
	Attempt   int       // number of this attempt, 1 and up
	Failures  int       // how many of those before were failures of its own, and not its receiver's
	Replay    bool      // it had ended and is sent again
	Replays   int       // how often, by then: fences what is recorded, as an attempt from before may be under way yet
	More      bool      // there were others behind it in its lane when it was handed out
	Test      bool      // a sample, and nothing that has happened
	Data      gen.AgentEventData
	Secrets   []string // what it is signed with; the newest first

	// DeployingUntil is until when, by this process's monotonic clock, an answer of 3xx, 401, 403, 404 or 405 is one of
	// a receiver that is being deployed, and the delivery is tried again. Zero for not at all.
	DeployingUntil time.Time

	// Traceparent is of which trace it is, as W3C's Trace Context has it: what the change is known by, or the attempt
	// if DispatcherOptions.Observe says so. It is sent along. Empty for none.
	Traceparent string
}

// Attempt is what one try at a delivery came to. What goes wrong at a receiver is a result, not a Go error.
type Attempt struct {
	StartedAt  time.Time
	Signature  string // as it was sent; empty when no request could be made
	Duration   time.Duration
	Status     int    // HTTP status of the answer, 0 when there was none
	Error      string // in plain words, without the URL's user info or query; empty when there was a complete answer
	Excerpt    string // beginning of the answer's body, valid UTF-8, the receiver's words
	Verdict    Verdict
	RetryAfter time.Duration // what the receiver asked for, 0 when it did not
	CutOff     bool          // the context of Send ended first: the attempt says nothing of the receiver
	HeldUp     bool          // the lease was over before the request was sent, as after a freeze
}

// Verdict says what becomes of a delivery after an attempt.
type Verdict string

// The verdicts.
const (
	Delivered Verdict = "delivered" // confirmed by a 2xx
	Retry     Verdict = "retry"     // may succeed later
	Failed    Verdict = "failed"    // hopeless
	Gone      Verdict = "gone"      // 410: failed, and the registration has ended
)

// Outcome is an attempt with what the dispatcher made of it.
type Outcome struct {
	Attempt

	// How long to wait for the next attempt, for the verdict Retry. Delay is for when the delivery failed, Recovery for
	// when its receiver is down; it is never longer than Delay. The store decides which: the receiver is down at the
	// second failure of one delivery, if the receiver has answered nothing between the two.
	Delay, Recovery time.Duration
}

// ClaimLimits say how many lanes a claim may take, and of which receivers.
type ClaimLimits struct {
	Fresh       bool                      // look only at lanes that changes have made due since the last claim
	Lanes       int                       // at most so many lanes in all; 1 and up
	PerReceiver int                       // at most so many lanes of any one receiver; 1 and up
	Take        func(receiver int64) bool // asked before each lane is taken; false leaves the lane for a later claim
	Full        []int64                   // receivers for which Take would return false; their lanes need no look
}

// Handoff lets an outbox hand deliveries to the dispatcher as soon as a change has made them, without a claim.
type Handoff struct {
	Take    func(receiver int64) bool // asked before each lane is leased; false leaves the lane for a claim
	Deliver func(Delivery)            // called for each leased lane when the lease is durable. It does not block.
	Release func(receiver int64)      // called instead of Deliver when the lease could not be stored
}

// Outbox is what the dispatcher needs of a store. Its methods are safe for concurrent use; their errors mean that
// the store is in trouble, and the same call may be made again.
type Outbox interface {
	// SetHandoff has the outbox hand new deliveries to h. Nil ends it.
	SetHandoff(h *Handoff)

	// Due signals that something may have become due. It never blocks the sender and may signal too often.
	Due() <-chan struct{}

	// Claim leases due lanes and returns the first delivery of each, and how long it is until the next lane
	// is due (0 when more are due than there was room for, negative when none is, or Fresh was all that it looked at).
	Claim(ctx context.Context, limits ClaimLimits) (claimed []Delivery, next time.Duration, err error)

	// Record stores an attempt and what follows from it, unless the claim is void. With keepLane it keeps the lane
	// and returns its next delivery if one is due; otherwise, and when it returns nil, the lane is released.
	Record(ctx context.Context, d Delivery, o Outcome, keepLane bool) (next *Delivery, err error)

	// Release releases a lane without an attempt: it is due at once.
	Release(ctx context.Context, d Delivery) error

	// RepairLanes finds lanes that do not match their deliveries, repairs them, and returns how many it repaired. It
	// also ends deliveries whose retry window is over, and waits that are further away than any may be.
	RepairLanes(ctx context.Context) (lanes int, err error)
}
