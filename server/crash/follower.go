package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/agentevents/agentevents/gen"
)

// follower reads the feed of changes page by page, and waits for what comes.
type follower struct {
	session
	random *rand.Rand
	seen   []int64
}

// follow reads until nothing is added any more and a page is empty.
func (w *follower) follow(ctx context.Context, complete func() bool) error {
	for {
		last := complete()
		n, err := w.page(ctx)
		switch {
		case errors.Is(err, errAway):
		case err != nil || last && n == 0:
			return err
		}
	}
}

// page reads on after the last change that was seen.
func (w *follower) page(ctx context.Context) (n int, err error) {
	after, limit, wait := w.last(), 1+w.random.IntN(50), w.random.IntN(3)
	resp, err := w.api.ListStatusChangesWithResponse(ctx, pbxClient, &gen.ListStatusChangesParams{After: &after, Limit: &limit, Wait: &wait})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return 0, err
	}
	for _, c := range *resp.JSON200 {
		if c.Sequence <= w.last() {
			w.book.wrong(disorder, "the feed has change %d after change %d", c.Sequence, w.last())
		}
		w.seen = append(w.seen, c.Sequence)
	}
	return len(*resp.JSON200), nil
}

// last is the last change that was seen, 0 for none.
func (w *follower) last() int64 {
	if len(w.seen) == 0 {
		return 0
	}
	return w.seen[len(w.seen)-1]
}

func (w *follower) saw() int { return len(w.seen) }

// compare holds what was seen against what is stored.
func (w *follower) compare(stored []int64) {
	for _, sequence := range stored {
		if !slices.Contains(w.seen, sequence) {
			w.book.wrong(lost, "change %d is stored, and the feed has passed it", sequence)
		}
	}
	if len(w.seen) != len(stored) {
		w.book.wrong(mismatched, "the feed had %d changes, and %d are stored", len(w.seen), len(stored))
	}
}
