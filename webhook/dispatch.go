package webhook

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pollInterval        = time.Second            // between two claims when nothing signals that something is due
	repairInterval      = time.Minute            // between two looks for lanes to repair
	stopGrace           = 12 * time.Second       // for attempts in flight when the dispatcher is stopped
	storeGrace          = time.Second            // for the store after that
	maxInARow           = 32                     // deliveries of one lane before other lanes have their turn
	recordRetryInterval = 200 * time.Millisecond // between two tries to record an attempt while the store fails
)

// DispatcherOptions are what a dispatcher is made of.
type DispatcherOptions struct {
	Outbox      Outbox
	Sender      *Sender
	Schedule    Schedule
	Slots       int          // attempts in flight in all; 0 means 1,024
	PerReceiver int          // attempts in flight at one receiver; 0 means 32
	Log         *slog.Logger // nil means slog.Default

	// Observe is called before each attempt, which it may give another Traceparent, and what it returns after it. The
	// outcome of an attempt that was cut off has no verdict. Nil means nobody looks.
	Observe func(*Delivery) func(Outcome)
}

// Dispatcher carries deliveries from an outbox to their receivers. In each lane one is in flight at a time.
type Dispatcher struct {
	DispatcherOptions
	limiter *limiter
	freed   chan struct{}
	turned  atomic.Int64

	mu      sync.Mutex
	work    func(Delivery) // begins to work a lane; nil while the dispatcher does not run
	workers sync.WaitGroup
}

// NewDispatcher returns a dispatcher; Run sets it going.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	if o.Slots == 0 {
		o.Slots = 1024
	}
	if o.PerReceiver == 0 {
		o.PerReceiver = 32
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(*Delivery) func(Outcome) { return func(Outcome) {} }
	}
	return &Dispatcher{DispatcherOptions: o, limiter: newLimiter(o.Slots, o.PerReceiver), freed: make(chan struct{}, 1)}
}

// Turned says when the loop last went round, for readiness. It goes round at least once a second, however many
// deliveries wait, as long as the outbox answers.
func (d *Dispatcher) Turned() time.Time { return time.UnixMilli(d.turned.Load()) }

// Run carries deliveries until ctx ends. Then it takes no new ones, and returns when those in flight are recorded;
// after 12 s it cuts them off, which is not a failure of theirs.
func (d *Dispatcher) Run(ctx context.Context) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cut) })()
	d.begin(func(x Delivery) { d.workLane(ctx, work, x) })
	defer d.end()
	d.workers.Go(func() { d.repairLanes(ctx) })
	fresh, until := false, time.Now()
	for ctx.Err() == nil {
		claimed, next := d.claim(ctx, fresh)
		for _, x := range claimed {
			d.start(x)
		}
		d.turned.Store(time.Now().UnixMilli())
		if at := time.Now().Add(next); !fresh || at.Before(until) {
			until = at
		}
		fresh = d.wait(ctx, until)
	}
	return nil
}

// begin takes what is handed out from now on.
func (d *Dispatcher) begin(work func(Delivery)) {
	d.mu.Lock()
	d.work = work
	d.mu.Unlock()
	d.Outbox.SetHandoff(&Handoff{Take: d.limiter.take, Deliver: d.start, Release: d.free})
}

// end takes nothing any more, and waits for the end of what it has.
func (d *Dispatcher) end() {
	d.Outbox.SetHandoff(nil)
	d.mu.Lock()
	d.work = nil
	d.mu.Unlock()
	d.workers.Wait()
}

// start has a lane be worked. What comes after the end is let go.
func (d *Dispatcher) start(x Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if work := d.work; work != nil {
		d.workers.Go(func() { work(x) })
	} else {
		go d.giveUp(context.Background(), x)
	}
}

// claim takes what there is room for, and says how long to wait for more.
func (d *Dispatcher) claim(ctx context.Context, fresh bool) ([]Delivery, time.Duration) {
	free, full := d.limiter.room()
	if free == 0 {
		return nil, pollInterval
	}
	var taken []int64
	refused := false
	claimed, next, err := d.Outbox.Claim(ctx, ClaimLimits{
		Fresh: fresh, Lanes: free, PerReceiver: d.PerReceiver, Full: full,
		Take: func(receiver int64) bool {
			ok := d.limiter.takeDue(receiver)
			if ok {
				taken = append(taken, receiver)
			}
			refused = refused || !ok && !slices.Contains(full, receiver)
			return ok
		},
	})
	d.giveBack(taken, claimed)
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Warn("claim deliveries", "error", err)
		}
		return nil, pollInterval
	}
	// Those who were refused are full from now on, and do not count again: going on at once comes to an end.
	if next < 0 || (next == 0 && len(taken) == 0 && !refused) {
		next = pollInterval
	}
	return claimed, min(next, pollInterval)
}

// giveBack releases the slots that were taken for lanes of which nothing was claimed after all.
func (d *Dispatcher) giveBack(taken []int64, claimed []Delivery) {
	unused := map[int64]int{}
	for _, r := range taken {
		unused[r]++
	}
	for _, x := range claimed {
		unused[x.Receiver]--
	}
	for r, n := range unused {
		for range n {
			d.limiter.giveBack(r)
		}
	}
}

// wait waits until there may be something to claim, and says whether that can only be what changes have made due: a
// look at all lanes costs the more the more receivers have a backlog.
func (d *Dispatcher) wait(ctx context.Context, until time.Time) (fresh bool) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-d.freed:
	case <-timer.C:
	case <-d.Outbox.Due():
		select {
		case <-d.freed:
		default:
			return true
		}
	}
	return false
}

// workLane works a workLane from the delivery that was claimed on, for as long as it may. Soft ends when no new attempt is to
// be begun, hard when one in flight is to be cut off.
func (d *Dispatcher) workLane(soft, hard context.Context, x Delivery) {
	for n := 1; ; n++ {
		next, answered := d.deliver(soft, hard, x, n < maxInARow)
		switch {
		case answered:
			d.signal(d.limiter.recorded())
			return
		case next == nil:
			d.free(x.Receiver)
			return
		}
		x = *next
	}
}

func (d *Dispatcher) free(receiver int64) {
	d.signal(d.limiter.release(receiver))
}

// signal lets the loop claim more, if there is room for what there was none for before.
func (d *Dispatcher) signal(room bool) {
	if !room {
		return
	}
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// deliver makes one attempt and records it. It does not begin one with less of the lease left than it may take: a
// process that was frozen must not send what another has overtaken. A receiver that has taken it, and that its lane has no
// more for, gets its slot back before that is recorded, which it has no part in.
func (d *Dispatcher) deliver(soft, hard context.Context, x Delivery, keepLane bool) (next *Delivery, answered bool) {
	if soft.Err() != nil || time.Until(x.Lease) < d.Sender.Timeout() {
		d.giveUp(hard, x)
		return nil, false
	}
	observed := d.Observe(&x)
	a := d.attempt(hard, x)
	if hard.Err() != nil && a.Verdict == Retry && a.Error != "" {
		observed(Outcome{})
		d.giveUp(hard, x)
		return nil, false
	}
	o := d.Schedule.Outcome(x, a)
	observed(o)
	d.log(x, o)
	if answered = a.Verdict == Delivered && !x.More; answered {
		d.signal(d.limiter.answered(x.Receiver))
	}
	return d.record(hard, x, o, keepLane && !answered && soft.Err() == nil), answered
}

// attempt sends, and lets the slots learn from it, at once when it takes long.
func (d *Dispatcher) attempt(ctx context.Context, x Delivery) Attempt {
	noted, receiver := make(chan struct{}), x.Receiver
	timer := time.AfterFunc(slowAfter, func() {
		defer close(noted)
		d.signal(d.limiter.late(receiver))
	})
	a := d.Sender.Send(ctx, x)
	late := !timer.Stop()
	if late {
		<-noted
	}
	d.signal(d.limiter.learn(receiver, a.Verdict != Retry || a.Health() == Alive, late))
	return a
}

// record stores the outcome. While the store is in trouble it tries again, until the lease is over and another may
// have the lane, or ctx has ended and a last try has failed.
func (d *Dispatcher) record(ctx context.Context, x Delivery, o Outcome, keepLane bool) *Delivery {
	for {
		try, cancel := outlast(ctx, x.Lease)
		next, err := d.Outbox.Record(try, x, o, keepLane)
		cancel()
		if err == nil {
			return next
		}
		d.Log.Warn("record an attempt", "delivery", x.ID, "error", err)
		if time.Until(x.Lease) <= recordRetryInterval || !sleep(ctx, recordRetryInterval) {
			return nil
		}
	}
}

// outlast returns a context that ends at a deadline, or a little after ctx: what is done by then is worth keeping, but
// a store that hangs must not hold up the end.
func outlast(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(storeGrace, cancel) })
	return longer, func() { stop(); cancel() }
}

// giveUp lets a lane go that was not worked. If that fails, its lease will end.
func (d *Dispatcher) giveUp(ctx context.Context, x Delivery) {
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeGrace)
	defer cancel()
	if err := d.Outbox.Release(try, x); err != nil {
		d.Log.Warn("release a lane", "lane", x.Lane, "error", err)
	}
}

// log says how an attempt went. The URL may hold secrets and is left to the store.
func (d *Dispatcher) log(x Delivery, o Outcome) {
	level := slog.LevelDebug
	if o.Verdict != Delivered {
		level = slog.LevelInfo
	}
	log := d.Log
	if id := TraceID(x.Traceparent); id != "" {
		log = log.With("trace_id", id)
	}
	log.Log(context.Background(), level, "attempt", "delivery", x.ID, "sequence", x.Sequence, "attempt", x.Attempt,
		"verdict", o.Verdict, "status", o.Status, "error", o.Error, "duration", o.Duration, "delay", o.Delay)
}

// TraceID is the second of a traceparent's four parts.
func TraceID(traceparent string) string {
	_, rest, _ := strings.Cut(traceparent, "-")
	id, _, _ := strings.Cut(rest, "-")
	return id
}

// repairLanes looks for stray lanes, at once and then every minute.
func (d *Dispatcher) repairLanes(ctx context.Context) {
	for {
		if _, err := d.Outbox.RepairLanes(ctx); err != nil && ctx.Err() == nil {
			d.Log.Warn("mend lanes", "error", err)
		}
		if !sleep(ctx, repairInterval) {
			return
		}
	}
}

// sleep says whether it was left to finish.
func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
