// Package lab is what tries agentevents from outside: the tests in server/e2e use it, the programs demo, crash, bench
// and sdk, and some tests of the server.
//
//	program.go   Main, which runs a program, Until, which waits, and Progress, which shows how far it is
//	server.go    Server, the real binary as a process on loopback, its Log, and Secret, which finds a secret in a log
//	client.go    Operator, Call and Token, by which the API is used, and Wire, the cheapest client, for measurements
//	receiver.go  Receiver, a web server that answers as it is programmed to
//	record.go    Record, which keeps what is expected and what arrives, and Check, which compares the two
package lab
