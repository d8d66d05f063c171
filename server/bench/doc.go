// Bench measures the built binary from outside. Three processes share one machine and talk over loopback: the program,
// as server/lab starts it; the receivers, which are this program once more; and this program, which makes the load and
// does the sums. Each workload is one file.
//
//	go run ./server/bench                    # all workloads but growth
//	go run ./server/bench -json out.json isolation
//	go run ./server/bench growth             # takes hours, and 20 GB in TMPDIR
//
// What is measured is the time from change to arrival: from when a change of a status was to be sent to when a receiver
// has the headers of the request that tells of it. Both ends read the clock of the machine, and the sequence number
// tells which belong together. The load does not wait for answers, so that a server that hangs is not spared.
//
// It exits with 1 when something happened that must never happen, as when a delivery was lost, and never because
// something took long.
package main
