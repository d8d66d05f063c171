// Package lab runs agentevents as a process, calls its API and receives its webhooks. The tests in server/e2e, the
// programs demo, crash, bench and sdk, and some tests of the server use it.
//
//	program.go   Main, which runs a program, Until, which waits, and Progress, which shows the state of a program
//	server.go    Server, the real binary as a process on loopback, its Log, and Secret, which finds a secret in a log
//	client.go    Operator, Call and Token, which use the API, and Wire, a client for measurements
//	receiver.go  Receiver, a web server with programmed replies
//	record.go    Record, which has the expected deliveries and the arrivals, and Check, which compares the two
package lab
