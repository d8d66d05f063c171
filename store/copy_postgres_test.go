package store_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

func noProgress(store.Copied) {}

// copying returns the databases of a copy: a source with everything, closed, and an empty target.
func copying(t *testing.T) (source, target *fixture) {
	t.Helper()
	pgtest.PostgresOnly(t, "a copy needs a server")
	source = &fixture{t: t, ctx: t.Context(), clock: newClock()}
	source.url = "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
	source.open()
	fillWithEverything(source)
	source.check(source.Close())
	target = &fixture{t: t, ctx: t.Context(), clock: source.clock, url: pgtest.Empty(t)}
	return source, target
}

// sequences returns the sequence numbers in the feed of client 12.
func (f *fixture) sequences() (numbers []int64) {
	f.t.Helper()
	feed, err := f.StatusChanges(f.ctx, "12", nil, "", 1000)
	f.check(err)
	for _, c := range feed.Changes {
		numbers = append(numbers, c.Sequence)
	}
	return numbers
}

// Pending deliveries are sent from the copy, in their order and with their numbers. New changes have greater numbers.
func TestCopyContinuesThePendingDeliveries(t *testing.T) {
	source, target := copying(t)
	tables := map[string]int64{}
	source.check(store.CopyTo(t.Context(), source.url, target.url, func(c store.Copied) { tables[c.Table] = c.Done }))
	if tables["deliveries"] != 6 || tables["attempts"] != 3 || tables["status_changes"] != 3 {
		t.Errorf("copied %v", tables)
	}
	source.open()
	want := source.sequences()
	source.check(source.Close())
	target.open()
	defer func() { target.check(target.Close()) }()
	if got := target.sequences(); !slices.Equal(got, want) {
		t.Errorf("the feed has %v, want %v", got, want)
	}
	target.clock.add(leaseTime)
	for claimed := target.claim(); len(claimed) > 0; claimed = target.claim() {
		for _, d := range claimed {
			target.finish(d)
		}
	}
	target.verify()
	k := store.AgentKey{Client: "12", Type: "local", ID: 136}
	if st := target.logout(k); st.Sequence <= want[len(want)-1] {
		t.Errorf("sequence %d after %v", st.Sequence, want)
	}
}

func TestCopyKeepsTheAnswersOfIdempotencyKeys(t *testing.T) {
	source, target := copying(t)
	source.open()
	rotation := source.operator()
	first := source.create(source.creations()["rotation"], rotation)
	source.check(source.Close())
	source.check(store.CopyTo(t.Context(), source.url, target.url, noProgress))
	target.open()
	defer func() { target.check(target.Close()) }()
	if again := target.create(target.creations()["rotation"], rotation); again != first {
		t.Errorf("the first answer is %s, the second %s", first, again)
	}
}

// It continues, or begins again if the source was served since.
func TestInterruptedCopyIsNotServed(t *testing.T) {
	for name, served := range map[string]bool{"and continues": false, "and begins again": true} {
		t.Run(name, func(t *testing.T) {
			source, target := copying(t)
			ctx, cancel := context.WithCancel(t.Context())
			err := store.CopyTo(ctx, source.url, target.url, func(c store.Copied) {
				if c.Table == "attempts" {
					cancel()
				}
			})
			if err == nil {
				t.Fatal("it was not interrupted")
			}
			if s, err := store.Open(t.Context(), store.Options{URL: target.url}); err == nil {
				t.Error("an incomplete copy is served", s.Close())
			} else if !strings.Contains(err.Error(), "agentevents copy") {
				t.Error(err)
			}
			err = store.Verify(t.Context(), store.Options{URL: target.url}, func(c store.Check) {
				t.Errorf("checked: %v", c)
			})
			if err == nil || !strings.Contains(err.Error(), "agentevents copy") {
				t.Error("verify of an incomplete copy:", err)
			}
			source.verify() // the source is complete
			if served {
				source.open()
				source.logout(store.AgentKey{Client: "12", Type: "local", ID: 136})
				source.check(source.Close())
			}
			first, restarted := map[string]int64{}, false
			err = store.CopyTo(t.Context(), source.url, target.url, func(c store.Copied) {
				restarted = restarted || c.Restarted
				if _, seen := first[c.Table]; !seen {
					first[c.Table] = c.Done
				}
			})
			source.check(err)
			if again := first["deliveries"] == 0; again != served || restarted != served {
				t.Errorf("%d deliveries existed at the second run; restarted: %t", first["deliveries"], restarted)
			}
			target.open()
			target.verify()
			if n := len(target.sequences()); served && n != 4 || !served && n != 3 {
				t.Errorf("%d changes", n)
			}
			target.check(target.Close())
		})
	}
}

// An application that is revoked during an interruption is not in the copy.
func TestContinuedCopyHasNoRevokedApplication(t *testing.T) {
	source, target := copying(t)
	source.open()
	for _, name := range []string{"one", "two"} {
		_, err := source.CreateOperator(t.Context(), name)
		source.check(err)
	}
	source.check(source.Close())
	ctx, cancel := context.WithCancel(t.Context())
	err := store.CopyTo(ctx, source.url, target.url, func(c store.Copied) {
		if c.Table == "requests" {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	s, err := store.OpenAlongside(t.Context(), store.Options{URL: source.url})
	source.check(err)
	was, err := s.AllApplications(t.Context())
	source.check(err)
	source.check(s.RevokeApplication(t.Context(), was[0].ID))
	source.check(s.Close())
	source.check(store.CopyTo(t.Context(), source.url, target.url, noProgress))
	target.open()
	defer func() { target.check(target.Close()) }()
	is, err := target.AllApplications(t.Context())
	target.check(err)
	if len(is) != len(was)-1 || slices.ContainsFunc(is, func(a store.AnyApplication) bool {
		return a.ID == was[0].ID
	}) {
		t.Errorf("the copy of %v has %v", was, is)
	}
}

func TestCopyRefusesUnsuitableDatabases(t *testing.T) {
	source, target := copying(t)
	refuse := func(what, want string, from, to string) {
		t.Helper()
		err := store.CopyTo(t.Context(), from, to, noProgress)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	refuse("the wrong way", "must be from sqlite:PATH", target.url, source.url)
	refuse("from nothing", "there is no database yet at /", "sqlite:"+filepath.Join(t.TempDir(), "x.db"), target.url)
	source.open()
	refuse("a source that is served", "another process serves", source.url, target.url)
	source.check(source.Close())
	target.open()
	target.agent()
	refuse("a target that is served", "another process serves", source.url, target.url)
	target.check(target.Close())
	refuse("a target with rows", "must have no client and no application", source.url, target.url)
}

func TestCompleteCopyIsNotRepeated(t *testing.T) {
	source, target := copying(t)
	source.check(store.CopyTo(t.Context(), source.url, target.url, noProgress))
	err := store.CopyTo(t.Context(), source.url, target.url, noProgress)
	if err == nil || !strings.Contains(err.Error(), "nothing is left to do") {
		t.Error(err)
	}
	target.open()
	defer func() { target.check(target.Close()) }()
	target.verify()
}
