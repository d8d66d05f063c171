// Package webhook is HTTP out: it carries AgentEventData to the registered URLs.
//
// Read delivery.go first: Delivery, Attempt, Verdict, Outcome, and the Outbox that hands deliveries out. A delivery
// passes through the files in this order:
//
//	dispatch.go  claims due lanes of an Outbox; limiter.go bounds how many are worked at once
//	lane.go      works a lane: one delivery after the other, each attempted and recorded
//	url.go       reads a registered URL: one form of its host, what has to be encoded
//	encode.go    turns AgentEventData into a request, by GET or by POST
//	sign.go      signs it, and verifies for receivers
//	send.go      makes one attempt, within one timeout and a bounded answer
//	transport.go keeps connections; lease_conn.go writes nothing after the lease, and knows a stale connection
//	dial.go      connects to an address of a name; guard.go refuses those that receivers may not live at
//	answer.go    reads an answer
//	judge.go     says what becomes of the delivery; health.go what that says about its receiver
//	schedule.go  says when it is tried again
//
// render.go shows a request to people: as it was sent, or as it would be.
//
// A lane is the deliveries for one agent at one receiver; at most one of them is in flight. A claim takes lanes that
// are due, each with a lease: the time within which this process alone works the lane. A handoff is a lane that the
// outbox leases as soon as a change has made it due, without a claim.
//
// The verdict is the one of judge.go, but the store has a delivery fail when its retry window is over, and has it tried
// again when its event was corrected, or a redelivery asked for, while it was in flight. An attempt that is cut off by
// a stop is not recorded. The store also keeps the breaker of each receiver. It opens after as many failures in a row
// as health.go says, and closes when an attempt finds the receiver Alive.
//
// The package knows neither a database nor a web framework. The store implements Outbox.
package webhook
