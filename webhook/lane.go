package webhook

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// processLane sends the deliveries of a lane, from the claimed one on, until none is due or maxInARow are sent. When
// soft ends, it begins no new attempt; when hard ends, it cuts off the one in flight.
func (d *Dispatcher) processLane(soft, hard context.Context, delivery Delivery) {
	for n := 1; ; n++ {
		next, confirmedLast := d.deliver(soft, hard, delivery, n < maxInARow)
		switch {
		case confirmedLast:
			d.signal(d.limiter.recorded())
			return
		case next == nil:
			d.releaseSlot(delivery.Receiver)
			return
		}
		delivery = *next
	}
}

// deliver makes one attempt and records it. It begins none if less of the lease is left than an attempt may take: after
// a suspension, another process may have sent later deliveries of the lane. confirmedLast reports that the receiver
// confirmed the last delivery of the lane. The slot of the receiver is then free for other lanes before the attempt is
// recorded.
func (d *Dispatcher) deliver(
	soft, hard context.Context, delivery Delivery, keepLane bool,
) (next *Delivery, confirmedLast bool) {
	if soft.Err() != nil || time.Until(delivery.Lease) < d.Sender.Timeout() {
		d.releaseLane(hard, delivery)
		return nil, false
	}
	observed := d.Observe(&delivery)
	a := d.attempt(hard, delivery)
	if a.CutOff {
		observed(Outcome{})
		d.releaseLane(hard, delivery)
		return nil, false
	}
	o := d.Schedule.Outcome(delivery, a)
	observed(o)
	d.log(delivery, o)
	if confirmedLast = a.Verdict == Delivered && !delivery.HasSuccessor; confirmedLast {
		d.signal(d.limiter.releaseEarly(delivery.Receiver))
	}
	return d.record(hard, delivery, o, keepLane && !confirmedLast && soft.Err() == nil), confirmedLast
}

// attempt sends, and reports to the limiter when the attempt ends, and before that when it becomes slow.
func (d *Dispatcher) attempt(ctx context.Context, delivery Delivery) Attempt {
	noted, receiver := make(chan struct{}), delivery.Receiver
	timer := time.AfterFunc(slowAfter, func() {
		defer close(noted)
		d.signal(d.limiter.late(receiver))
	})
	a := d.Sender.Send(ctx, delivery)
	late := !timer.Stop()
	if late {
		<-noted
	}
	d.signal(d.limiter.learn(receiver, a.Verdict != Retry || a.Health() == Alive, late))
	return a
}

// record stores the outcome. While the store fails it tries again, until the lease is over and another process may have
// the lane, or until ctx has ended and a last try has failed.
func (d *Dispatcher) record(ctx context.Context, delivery Delivery, o Outcome, keepLane bool) *Delivery {
	for {
		try, cancel := outlast(ctx, delivery.Lease)
		next, err := d.Outbox.Record(try, delivery, o, keepLane)
		cancel()
		if err == nil {
			return next
		}
		d.Log.Warn("attempt not recorded", "delivery", delivery.ID, "error", err)
		if time.Until(delivery.Lease) <= recordRetryInterval || !sleep(ctx, recordRetryInterval) {
			return nil
		}
	}
}

// outlast returns a context that ends at a deadline, or storeGrace after ctx. So an outcome can still be stored, and a
// store that hangs does not block the end.
func outlast(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(storeGrace, cancel) })
	return longer, func() { stop(); cancel() }
}

// releaseLane releases a lane without an attempt. If that fails, the lane is free when its lease ends.
func (d *Dispatcher) releaseLane(ctx context.Context, delivery Delivery) {
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeGrace)
	defer cancel()
	if err := d.Outbox.Release(try, delivery); err != nil {
		d.Log.Warn("lane not released", "lane", delivery.Lane, "error", err)
	}
}

// log writes a line about an attempt. It leaves out the URL, which may have secrets.
func (d *Dispatcher) log(delivery Delivery, o Outcome) {
	level := slog.LevelDebug
	if o.Verdict != Delivered {
		level = slog.LevelInfo
	}
	log := d.Log
	if id := TraceID(delivery.Traceparent); id != "" {
		log = log.With("trace_id", id)
	}
	if o.Detail != "" {
		log = log.With("detail", o.Detail)
	}
	log.Log(context.Background(), level, "attempt", "delivery", delivery.ID, "sequence", delivery.Sequence,
		"attempt", delivery.Attempt, "verdict", o.Verdict, "status", o.Status, "error", o.Error,
		"duration_ms", float64(o.Duration.Microseconds())/1000, "delay", o.Delay)
}

// TraceID returns the second of a traceparent's four parts, the trace id. It returns "" for a text without a hyphen.
func TraceID(traceparent string) string {
	_, rest, _ := strings.Cut(traceparent, "-")
	id, _, _ := strings.Cut(rest, "-")
	return id
}
