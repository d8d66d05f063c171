//go:build !linux

package sqlite

import "os"

// lockInode is what Linux alone has; the lock file is all that there is here.
func lockInode(string) (*os.File, error) { return nil, nil }
