// Package lab is what the programs share that try agentevents from outside (demo, crash, bench, sdk):
//
//   - Server, the real binary as a process on loopback, and its Log;
//   - Operator, NewClient and Answered, by which its API is used;
//   - Receiver, a web server that answers as it is programmed to, and Record, which keeps what arrives;
//   - Check, which compares the deliveries that are expected with those that have arrived;
//   - Progress, which shows how far a program is.
package lab
