//go:build unix

package sqlite

import (
	"io/fs"
	"syscall"
)

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if s, is := info.Sys().(*syscall.Stat_t); is {
		return uint64(s.Nlink) //nolint:unconvert // it has other types on other systems
	}
	return 1
}
