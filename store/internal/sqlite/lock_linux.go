package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const (
	openFileLock = 37      // F_OFD_SETLK: the lock belongs to the open file, so no other close in this process ends it
	lockedByte   = 1 << 62 // far behind the bytes that SQLite locks
)

// lockInode locks the file itself, whatever name opened it, so that it stays locked after the lock file is removed. The
// returned file must stay open until SQLite has closed its files: to close it ends SQLite's own locks.
func lockInode(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: lockedByte, Len: 1}
	err = syscall.FcntlFlock(f.Fd(), openFileLock, &lock)
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES):
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, errServed), f.Close())
	case err != nil: // the file system has no such locks, so only the lock file protects it
		return f, nil //nolint:nilerr // the lock file is enough
	}
	return f, nil
}
