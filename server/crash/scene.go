package main

import (
	"context"
	"errors"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"
)

// scene is what there is around the program: receivers, agents and the book that is kept of them.
type scene struct {
	options
	out        *printer
	book       *ledger
	receivers  []*receiver
	groups     [][]*agent // those of each writer
	outages    errgroup.Group
	endOutages context.CancelFunc // ends the outages
	stop       context.CancelFunc // ends what goes on until close
}

func newScene(o options, out *printer) (*scene, error) {
	s := &scene{options: o, out: out, book: newLedger(), endOutages: func() {}}
	s.begin()
	for number := range receivers {
		r, err := newReceiver(number, s.book, s.mood(number))
		if err != nil {
			s.close()
			return nil, err
		}
		s.receivers = append(s.receivers, r)
	}
	writers := 4 // for plain agents; a busy one has its own
	if o.replicas > 0 {
		writers = min(4*o.replicas, o.agents) // some of whom wait for one that is frozen
	}
	s.groups = make([][]*agent, writers)
	for i, a := range newAgents(o.agents, o.registrations) {
		if a.busy() {
			s.groups = append(s.groups, []*agent{a})
		} else {
			s.groups[i%writers] = append(s.groups[i%writers], a)
		}
	}
	return s, nil
}

func (s *scene) mood(number int) *mood {
	m := &mood{random: s.random(0, number), moody: number == moody, turned: make(chan struct{})}
	if number != alone {
		m.most = min(s.agents/2, 8)
	}
	return m
}

// begin is what goes on until close.
func (s *scene) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go s.book.times.watchStalls(ctx)
}

// beginOutages has receivers go away and come back, until calm.
func (s *scene) beginOutages(ctx context.Context) {
	ctx, s.endOutages = context.WithCancel(ctx)
	for _, r := range s.receivers {
		if r.number != quick {
			p := &outagePlan{random: s.random(0, 100+r.number)}
			s.outages.Go(func() error { return r.runOutages(ctx, p) })
		}
	}
}

// calm has all receivers there, which confirm everything from now on.
func (s *scene) calm() error {
	for _, r := range s.receivers {
		r.mood.calm()
	}
	s.endOutages()
	return s.outages.Wait()
}

func (s *scene) close() {
	s.stop()
	s.endOutages()
	_ = s.outages.Wait() // is of interest to calm alone
	for _, r := range s.receivers {
		r.close()
	}
}

// random returns what decides about one thing in one life; plans have the life 0 and the number 0 of their own.
func (s *scene) random(life, number int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(life)<<32|uint64(number+1))) //nolint:gosec // no secret
}

// urls are those of the receivers.
func (s *scene) urls() (urls []string) {
	for _, r := range s.receivers {
		urls = append(urls, r.url)
	}
	return urls
}

// settle waits until the receivers have noted all that a server that is gone has sent.
func (s *scene) settle(ctx context.Context) error {
	for _, r := range s.receivers {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drain waits until all that is owed has arrived. If nothing of it arrives any more, it is for the judgement to tell.
func (s *scene) drain(ctx context.Context, l *life) error {
	l.writers.Wait()
	for owed := s.book.outstanding(); owed > 0; owed = s.book.outstanding() {
		err := eventually(ctx, l, silence, func() bool { return s.book.outstanding() < owed })
		if errors.Is(err, errLate) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return l.trouble()
}
