// Package lab is what tries agentevents from outside: the tests in server/e2e use it, the programs demo, crash, bench
// and sdk, and some tests of the server.
//
//	server.go    Server, the real binary as a process on loopback, and its Log
//	secret.go    Secret, which finds a secret in a log; Tell names one that has no look of its own
//	client.go    NewClient, Operator, Call and Answered, by which the API is used
//	wire.go      Wire, the cheapest client: bytes over one connection, for measurements
//	receiver.go  Receiver, a web server that answers as it is programmed to
//	record.go    Record, which keeps what is expected and what arrives
//	check.go     Check, which compares the two
//	progress.go  Progress, which shows how far a program is
package lab
