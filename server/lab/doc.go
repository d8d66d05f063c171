// Package lab is what the programs share that try agentevents from outside (demo, crash, bench, sdk): the real binary as a
// process on loopback.
package lab
