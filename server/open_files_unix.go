//go:build unix

package main

import "syscall"

// maxOpenFiles returns how many files the process may open, 0 if that is not known. Go has raised it to the hard limit.
func maxOpenFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur) //nolint:unconvert // signed on FreeBSD
}
