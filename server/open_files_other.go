//go:build !unix

package main

// maxOpenFiles returns 0, since this system has no limit that could be read.
func maxOpenFiles() uint64 { return 0 }
