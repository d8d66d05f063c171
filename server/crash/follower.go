package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// followers is how many read the feed.
const followers = 2

// follower reads the feed of changes page by page, and waits for what comes.
type follower struct {
	*crash
	api    *router
	random *rand.Rand
	seen   []int64
}

// follow reads until nothing is added any more and a page is empty.
func (f *follower) follow(ctx context.Context) error {
	for {
		complete := f.complete.Load()
		n, err := f.page(ctx)
		switch {
		case errors.Is(err, errAway):
		case err != nil || complete && n == 0:
			return err
		}
	}
}

// page reads on after the last change that was seen.
func (f *follower) page(ctx context.Context) (n int, err error) {
	after, limit, seconds := f.last(), 1+f.random.IntN(50), f.random.IntN(3)
	url := fmt.Sprintf("%s/status_change/?after=%d&limit=%d&wait=%d", pbx, after, limit, seconds)
	changes, err := lab.Call[[]gen.StatusChange](ctx, f.api, http.StatusOK, http.MethodGet, url, nil)
	for _, c := range changes {
		if c.Sequence <= f.last() {
			f.record.Wrong(lab.Disorder, "the feed has change %d after change %d", c.Sequence, f.last())
		}
		f.seen = append(f.seen, c.Sequence)
	}
	return len(changes), err
}

// last is the last change that was seen, 0 for none.
func (f *follower) last() int64 {
	if len(f.seen) == 0 {
		return 0
	}
	return f.seen[len(f.seen)-1]
}

// compare holds what was seen against what is stored.
func (f *follower) compare(stored []int64) {
	for _, sequence := range stored {
		if !slices.Contains(f.seen, sequence) {
			f.record.Wrong(lab.Lost, "change %d is stored, and the feed has passed it", sequence)
		}
	}
	if len(f.seen) != len(stored) {
		f.record.Wrong(lab.Mismatched, "the feed had %d changes, and %d are stored", len(f.seen), len(stored))
	}
}
