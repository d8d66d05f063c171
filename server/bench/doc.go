// Bench measures the built binary from outside, and holds it against floors. This process sends the changes and
// receives the webhooks; the program, as server/lab starts it, and the floors are processes of their own, on the same
// machine.
//
//	go run ./server/bench burst steady >bench.txt       # results in Go's benchmark format
//	benchstat -col /on bench.txt                        # golang.org/x/perf/cmd/benchstat
//	go run ./server/bench -engines sqlite -agents 100 -changes 2000 -count 1 burst
//	go run ./server/bench -binary bin/before,bin/agentevents -floors none -count 10 burst steady
//
// The workloads (workload.go):
//
//   - burst, steady, shift and fanout have changes come as fast as they are taken, or at a rate, and compare the
//     program with floors (throughput.go).
//   - isolation has some receivers hang (isolation.go).
//   - backlog has changes pile up for a receiver that goes down and comes back (backlog.go).
//   - soak has the program delete old rows all the time (soak.go).
//
// All of them run in the same way (trial.go): streams of changes (generator.go) go to targets, and receivers.go has
// what arrives. Each round has all targets in turn, since what a machine can do drifts.
//
// The floors (target.go): "raw" sends the forms directly to the receiver; "relay" takes the same changes, stores
// nothing, and sends the same forms; "ledger-sqlite" and "ledger-postgres" are that relay with the least that makes it
// durable, one row per form.
//
// The latency of a delivery is the time from when its change was due to be sent until a receiver has the request. Where
// changes come at a rate, the load does not wait for answers, so that a server that hangs is not spared.
//
// It exits with 1 when something happened that must never happen, as when a delivery was lost, and never because
// something took long.
package main
