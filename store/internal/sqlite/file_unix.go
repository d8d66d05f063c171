//go:build unix

package sqlite

import (
	"io/fs"
	"syscall"
)

// links returns the number of names of a file.
func links(info fs.FileInfo) uint64 {
	if s, is := info.Sys().(*syscall.Stat_t); is {
		return uint64(s.Nlink) //nolint:unconvert // Nlink has other types on other systems
	}
	return 1
}
