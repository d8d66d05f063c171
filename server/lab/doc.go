// Package lab is what the programs share that try agentevents from outside (demo, crash, bench): the real binary as a
// process on loopback.
package lab
