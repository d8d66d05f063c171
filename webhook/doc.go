// Package webhook sends status changes of agents to registered URLs, and verifies such requests for receivers.
//
// # Receive
//
// A receiver calls [Verify] for each request, with the body of a POST or the raw query of a GET as it arrived. The
// README.md of this directory is the guide for receivers: what arrives, what to answer, duplicates, order, retries.
//
// # Send
//
// A [Sender] makes one attempt at a [Delivery] and returns the [Attempt]. Its [Verdict] decides how the delivery
// continues. A [Guard] allows the addresses that a Sender may dial, and checks URLs before they are registered. A
// [Schedule] adds the delay before the next attempt.
//
// # Dispatch
//
// A [Dispatcher] sends all deliveries of a store, which implements [Outbox], until they are delivered or have failed.
// [NewDispatcher] makes one and [Dispatcher.Run] runs it:
//
//	sender := webhook.NewSender(webhook.SenderOptions{})
//	defer sender.Close()
//	d := webhook.NewDispatcher(webhook.DispatcherOptions{
//		Outbox: outbox, Sender: sender, Schedule: webhook.DefaultSchedule(),
//	})
//	d.Run(ctx)
//
// A lane is the deliveries for one agent at one receiver; at most one of them is in flight. A claim takes lanes that
// are due, each with a lease: the time in which this process alone has the lane. A handoff is a lane that the outbox
// leases when it commits a status change, without a claim.
//
// The outbox has the last word on a verdict. It fails a delivery whose retry window is over. It tries a delivery again
// if its event was corrected, or a redelivery requested, while the attempt was in flight. The outbox also keeps a
// breaker for each receiver. It opens after [BreakerThreshold] failures in a row, and closes when an attempt finds the
// receiver [Alive]. An attempt that is cut off by a stop is not recorded.
//
// The package has no database and no web framework.
//
// # Files
//
// Read delivery.go first: Delivery, Attempt, Verdict, Outcome, Outbox. A delivery passes through the files in this
// order:
//
//	dispatch.go  claims due lanes of an Outbox; limiter.go bounds the attempts in flight
//	lane.go      processes a lane: one delivery after the other, each attempted and recorded
//	url.go       reads a registered URL: one form of its host, the bytes to encode
//	encode.go    makes the request from AgentEventData, by GET or by POST
//	sign.go      signs it, and verifies for receivers
//	send.go      makes one attempt, within one timeout and a bounded answer
//	transport.go keeps connections; lease_conn.go writes nothing after the lease, and detects a stale connection
//	dial.go      connects to an address of a name; guard.go refuses forbidden ones
//	answer.go    reads an answer
//	judge.go     decides the verdict; health.go the state of the receiver
//	schedule.go  sets the delay before the next attempt
//
// render.go shows a request as it was sent, or as it would be sent now.
package webhook
