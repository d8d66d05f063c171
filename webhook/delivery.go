package webhook

import (
	"context"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// Delivery is one status change on its way to the URL of one event, as an outbox hands it out for one attempt.
type Delivery struct {
	ID           int64
	WebhookID    string    // unique for ever; the same on every attempt
	Lane         int64     // the lane's row: an agent and a receiver
	Claim        int64     // fences the record: a later claim of the lane makes this one void
	Lease        time.Time // end of the lane's lease, by this process's monotonic clock
	Receiver     int64     // the receiver's row: client, scheme, host and port
	Client       string    // whose receiver it is; empty if clients have no bounds
	URL          string
	Method       gen.RequestMethod
	Version      int64 // the row with the URL and the method
	EventType    gen.EventType
	Sequence     int64     // number of the status change, 1 and up; 0 in a test delivery
	Epoch        string    // current epoch of sequence numbers; empty for none
	ChangedAt    time.Time // of the status change
	CreatedAt    time.Time // when the status change was stored
	Attempt      int       // number of this attempt, 1 and up
	Failures     int       // failed attempts so far that were its own failures, not its receiver's (see Outcome)
	Redelivery   bool      // a redelivery: it had ended before
	Redeliveries int       // redeliveries so far; fences the record of an attempt that began before the last one
	HasSuccessor bool      // others waited behind it in its lane when it was handed out
	Test         bool      // a test delivery, without a status change
	Data         gen.AgentEventData
	Secrets      []string // each signs the request; the newest first

	// DeployingUntil is the end of the time in which an answer of 3xx, 401, 403, 404 or 405 is tried again, since the
	// receiver may be in deployment. It is by this process's monotonic clock. If it is zero, such an answer is final.
	DeployingUntil time.Time

	// Traceparent is the trace context that is sent (W3C Trace Context): that of the status change, unless
	// DispatcherOptions.Observe sets that of the attempt. Empty for none.
	Traceparent string
}

// Attempt is the result of one try at a delivery. A failure of the receiver is a result, not a Go error.
type Attempt struct {
	StartedAt  time.Time
	Signature  string // as it was sent; empty when no request could be made
	Duration   time.Duration
	Status     int    // HTTP status of the answer, 0 when there was none
	Error      string // in plain words, without the URL's user info or query; empty after a complete answer
	Detail     string // what Error leaves out about the network of this machine, for the operator's log alone
	Excerpt    string // beginning of the answer's body, as valid UTF-8
	Verdict    Verdict
	RetryAfter time.Duration // delay that the receiver asked for, 0 for none
	CutOff     bool          // the context of Send ended first: no result for the receiver
	LeaseOver  bool          // the lease ended before the request was sent, as after a suspension
}

// Verdict decides how a delivery continues after an attempt.
type Verdict string

// The verdicts.
const (
	Delivered Verdict = "delivered" // confirmed by a 2xx
	Retry     Verdict = "retry"     // may succeed later
	Failed    Verdict = "failed"    // final
	Gone      Verdict = "gone"      // 410: failed, and its event is disabled
)

// Outcome is an attempt, and the delays before the next one.
type Outcome struct {
	Attempt

	// The delays before the next attempt, for the verdict Retry. Delay applies if the delivery failed, Recovery if its
	// receiver is down; Recovery is never longer than Delay. The store decides which applies: the receiver is down at
	// the second failure of one delivery, if the receiver has answered nothing between the two.
	Delay, Recovery time.Duration
}

// ClaimLimits bound the lanes that a claim may take, in all and of each receiver.
type ClaimLimits struct {
	Fresh       bool // look only at lanes that changes have made due since the last claim
	Lanes       int  // at most so many lanes in all; 1 and up
	PerReceiver int  // at most so many lanes of one receiver; 1 and up

	// Take is asked before each lane is taken; false leaves the lane for a later claim.
	Take func(client string, receiver int64) bool

	// The clients and the receivers for which Take would return false; the claim may skip them.
	FullClients []string
	Full        []int64
}

// HandoffFuncs are the functions of a dispatcher by which an outbox hands off new deliveries. The outbox does so when
// their change is committed, without a claim.
type HandoffFuncs struct {
	// Take is asked before each lane is leased; false leaves the lane for a claim.
	Take        func(client string, receiver int64) bool
	Deliver     func(Delivery)       // called for each leased lane when the lease is durable. It does not block.
	ReleaseSlot func(receiver int64) // called instead of Deliver when the lease could not be stored
}

// Outbox is the store of deliveries that a dispatcher needs. Its methods are safe for concurrent use. Their errors mean
// that the store has failed, and that the same call may be repeated.
type Outbox interface {
	// SetHandoff has the outbox hand new deliveries to h. Nil ends it.
	SetHandoff(h *HandoffFuncs)

	// Due signals that a lane may have become due. It never blocks its sender, and may signal too often.
	Due() <-chan struct{}

	// Claim leases due lanes and returns the first delivery of each, and the time until the next claim.
	//
	// next is 0 if that claim may find more due lanes. It is negative if no later due time is known, as in most claims
	// with Fresh. A lane that Take or PerReceiver left out does not count by itself: the dispatcher claims again when a
	// slot is free.
	Claim(ctx context.Context, limits ClaimLimits) (claimed []Delivery, next time.Duration, err error)

	// Record stores an attempt. If the claim is valid, it also stores the consequences for delivery, lane and receiver.
	// With keepLane it may keep the lane and return its next delivery, which is due. If it returns nil and no error, it
	// has released the lane, unless the claim is void.
	Record(ctx context.Context, d Delivery, o Outcome, keepLane bool) (next *Delivery, err error)

	// Release releases a lane without an attempt, so that it is due at once.
	Release(ctx context.Context, d Delivery) error

	// RepairLanes finds lanes that do not match their deliveries, repairs them, and returns how many it repaired. It
	// also ends deliveries whose retry window is over, and waits that are longer than any may be.
	RepairLanes(ctx context.Context) (lanes int, err error)
}
