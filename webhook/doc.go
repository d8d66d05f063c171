// Package webhook is HTTP out: it carries AgentEventData to the registered URLs.
//
// A delivery passes through the files in this order:
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
//	judge.go     says what becomes of the delivery; breaker.go what that says about its receiver
//	schedule.go  says when it is tried again
//
// The package knows neither a database nor a web framework. The store implements Outbox.
package webhook
