//go:build !linux

package sqlite

import "os"

// lockInode does nothing: only Linux has such locks, and the lock file must be enough here.
func lockInode(string) (*os.File, error) { return nil, nil }
