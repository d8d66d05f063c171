package sqlite

import (
	"errors"
	"fmt"
	"os"

	"github.com/gofrs/flock"
)

// errServed is returned for a file that another process has taken.
var errServed = errors.New("another process serves this database")

// lockFile takes a file for this process alone: two processes would each drop the other's leases.
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

// lockIfFree takes a file that is there, unless another process has it: the lock is not locked then.
func lockIfFree(file string) (*flock.Flock, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("there is no database yet, `agentevents serve` makes it: %w", err)
	}
	lock, err := lockFile(file)
	if errors.Is(err, errServed) {
		return flock.New(file + lockSuffix), nil
	}
	return lock, err
}
