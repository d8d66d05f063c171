package sqlite

import (
	"errors"
	"fmt"

	"github.com/gofrs/flock"
)

// errServed is the error for a file that another process has locked.
var errServed = errors.New("another process serves this database: stop it first, or use another path")

// lockFile locks a file for this process. Two processes would drop each other's leases.
func lockFile(file string) (*flock.Flock, error) {
	lock := flock.New(file + lockSuffix)
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	if !locked {
		return nil, fmt.Errorf("open %s: %w", file, errServed)
	}
	return lock, nil
}

// lockIfFree locks an existing file, unless another process has locked it: then it returns a lock that is not locked.
func lockIfFree(file string) (*flock.Flock, error) {
	if err := checkExists(file); err != nil {
		return nil, err
	}
	lock, err := lockFile(file)
	if errors.Is(err, errServed) {
		return flock.New(file + lockSuffix), nil
	}
	return lock, err
}
