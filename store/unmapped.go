package store

import (
	"math"

	"github.com/agentevents/agentevents/store/vfs"
)

// unmapped has no file be read through memory until the function that it returns is called: who is to find out what cannot
// be read must not end by it.
func unmapped() (done func()) {
	before := vfs.MapFrom(math.MaxInt64)
	return func() { vfs.MapFrom(before) }
}
