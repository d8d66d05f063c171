package webhook

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pollInterval        = time.Second            // between two claims without a signal
	repairInterval      = time.Minute            // between two repairs of lanes
	stopGrace           = 12 * time.Second       // for attempts in flight when the dispatcher is stopped
	storeGrace          = time.Second            // for the store after that
	maxInARow           = 32                     // deliveries of one lane before other lanes continue
	recordRetryInterval = 200 * time.Millisecond // between two tries to record an attempt while the store fails
)

// DispatcherOptions are the parts and settings of a dispatcher. Outbox and Sender are required.
type DispatcherOptions struct {
	Outbox      Outbox
	Sender      *Sender
	Schedule    Schedule
	Slots       int          // attempts in flight at all receivers together, 1 and up; 0 means 1,024
	PerReceiver int          // attempts in flight at any one receiver, 1 and up; 0 means 32
	Log         *slog.Logger // nil means slog.Default

	// Observe is called before each attempt, and may change its Traceparent. The function that it returns is called
	// after the attempt. The outcome of an attempt that was cut off has no verdict. Nil means no observer.
	Observe func(*Delivery) func(Outcome)
}

// Dispatcher sends the deliveries of an outbox to their receivers. In each lane one is in flight at a time.
type Dispatcher struct {
	DispatcherOptions
	limiter   *limiter
	freed     chan struct{}
	heartbeat atomic.Int64

	mu      sync.Mutex
	process func(Delivery) // processes a lane; nil while the dispatcher does not run
	workers sync.WaitGroup
}

// NewDispatcher returns a dispatcher; Run starts it.
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

// Heartbeat returns the end of the last claim, even of one that failed, or of the last round without a free slot. While
// the outbox answers, it advances at least once a second, however long the backlog is.
func (d *Dispatcher) Heartbeat() time.Time { return time.UnixMilli(d.heartbeat.Load()) }

// Run sends deliveries until ctx ends. Then it takes no new ones, and returns when those in flight are recorded. After
// 12 s it cuts them off, which does not count as a failure.
func (d *Dispatcher) Run(ctx context.Context) {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cut) })()
	d.begin(func(delivery Delivery) { d.processLane(ctx, hard, delivery) })
	defer d.end()
	d.workers.Go(func() { d.repairLanes(ctx) })
	fresh, until := false, time.Now()
	for ctx.Err() == nil {
		claimed, next := d.claim(ctx, fresh)
		for _, delivery := range claimed {
			d.start(delivery)
		}
		d.heartbeat.Store(time.Now().UnixMilli())
		// A fresh claim does not know when the next lane is due. It keeps an earlier time from the last full claim.
		if at := time.Now().Add(next); !fresh || at.Before(until) {
			until = at
		}
		fresh = d.wait(ctx, until)
	}
}

// begin accepts deliveries from now on.
func (d *Dispatcher) begin(process func(Delivery)) {
	d.mu.Lock()
	d.process = process
	d.mu.Unlock()
	d.Outbox.SetHandoff(&HandoffFuncs{Take: d.limiter.take, Deliver: d.start, ReleaseSlot: d.releaseSlot})
}

// end accepts no more deliveries, and waits until the workers have finished.
func (d *Dispatcher) end() {
	d.Outbox.SetHandoff(nil)
	d.mu.Lock()
	d.process = nil
	d.mu.Unlock()
	d.workers.Wait()
}

// start processes a lane in the background. A lane that arrives after the end is released.
func (d *Dispatcher) start(delivery Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if process := d.process; process != nil {
		d.workers.Go(func() { process(delivery) })
	} else {
		go d.releaseLane(context.Background(), delivery)
	}
}

// claim claims as many lanes as the limiter allows, and returns how long to wait until the next claim.
func (d *Dispatcher) claim(ctx context.Context, fresh bool) ([]Delivery, time.Duration) {
	free, clients, full := d.limiter.room()
	if free == 0 {
		return nil, pollInterval
	}
	var taken []int64
	refused := false
	claimed, next, err := d.Outbox.Claim(ctx, ClaimLimits{
		Fresh: fresh, Lanes: free, PerReceiver: d.PerReceiver, FullClients: clients, Full: full,
		Take: func(client string, receiver int64) bool {
			ok := d.limiter.takeDue(client, receiver)
			if ok {
				taken = append(taken, receiver)
			}
			refused = refused || !ok && !slices.Contains(full, receiver)
			return ok
		},
	})
	d.returnUnused(taken, claimed)
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Warn("claim failed", "error", err)
		}
		return nil, pollInterval
	}
	// If the claim took no lane, claim again immediately only if Take refused a receiver that was not in Full. The next
	// claim has that receiver in Full, or its client in FullClients, so this does not repeat for ever.
	if next < 0 || (next == 0 && len(taken) == 0 && !refused) {
		next = pollInterval
	}
	return claimed, min(next, pollInterval)
}

// returnUnused releases slots that were taken for lanes that the claim did not return.
func (d *Dispatcher) returnUnused(taken []int64, claimed []Delivery) {
	unused := map[int64]int{}
	for _, r := range taken {
		unused[r]++
	}
	for _, delivery := range claimed {
		unused[delivery.Receiver]--
	}
	for r, n := range unused {
		for range n {
			d.limiter.returnUnused(r)
		}
	}
}

// wait waits until a lane may be due. It reports whether only changes can have made it due. Then the next claim need
// not look at all lanes, which costs more for each receiver with a backlog.
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

func (d *Dispatcher) releaseSlot(receiver int64) {
	d.signal(d.limiter.release(receiver))
}

// signal makes Run claim again, if there is room for a receiver that was refused before.
func (d *Dispatcher) signal(room bool) {
	if !room {
		return
	}
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// repairLanes repairs lanes at once, and then every minute.
func (d *Dispatcher) repairLanes(ctx context.Context) {
	for {
		if _, err := d.Outbox.RepairLanes(ctx); err != nil && ctx.Err() == nil {
			d.Log.Warn("lane repair failed", "error", err)
		}
		if !sleep(ctx, repairInterval) {
			return
		}
	}
}

// sleep reports whether the time passed before ctx ended.
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
