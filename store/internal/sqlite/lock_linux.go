package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const (
	openFileLock = 37      // F_OFD_SETLK: the lock is that of the open file, and no other close in this process ends it
	lockedByte   = 1 << 62 // far behind those that SQLite locks
)

// lockInode takes the file itself for this process, whatever name it was found by, also when the lock file is
// removed. The file must stay open until SQLite has closed it: to close it ends SQLite's own locks.
func lockInode(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0) //nolint:gosec // the operator says which
	if err != nil {
		return nil, err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: lockedByte, Len: 1}
	err = syscall.FcntlFlock(f.Fd(), openFileLock, &lock)
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES):
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, errServed), f.Close())
	case err != nil: // a file system without such locks has the lock file
		return f, nil //nolint:nilerr // as that is
	}
	return f, nil
}
