package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// answerTime is how long receivers take for an answer where there are no floors.
const answerTime = 5 * time.Millisecond

// scenario is what happens in a measurement: streams of changes come while one phase follows another.
type scenario struct {
	clients  []*client
	measured []*client // their latency is printed for each phase, and all their deliveries must arrive
	clone    bool      // the first agent alone is registered, and copied by way of the store
	env      []string  // further variables of the program (NAME=VALUE)
	warm     []stream  // come before, one after the other, and do not count
	streams  []stream  // come side by side
	phases   []phase
	finish   func() // completes the values of phases, or prints what else was measured; may be nil
}

// phase is a part of a scenario.
type phase struct {
	part   string                          // of the benchmark's name, may be empty
	do     func(ctx context.Context) error // which it lasts for; of the last one nil: until the streams end
	values values                          // what was measured in it apart from the latency, may be nil
	span
}

// measurement is a scenario of a workload with a system, once.
type measurement struct {
	*bench
	workload
	system
	where string // the workload, the round and the system, for the log and faults
	*receivers
	scenario
	*instance       // of the system
	used      usage // by the instance, since the warm-up
}

// measure runs a workload. Each round has every scenario with all systems in turn.
func (b *bench) measure(ctx context.Context, w workload) error {
	r := &receivers{urls: make([]string, w.receivers), byName: map[string]*client{}}
	planned, err := w.scenarios(&measurement{bench: b, workload: w, receivers: r})
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	for round := range w.count {
		for number := range planned {
			for _, s := range b.systems(w) {
				m := &measurement{bench: b, workload: w, system: s}
				m.where = fmt.Sprintf("%s, round %d of %d, %s", w.name, round+1, w.count, s.label)
				if err := m.run(ctx, number); err != nil {
					return fmt.Errorf("%s: %w", m.where, err)
				}
			}
		}
	}
	return nil
}

// run measures a scenario, which is given by its number, and prints the results.
func (m *measurement) run(ctx context.Context, number int) (err error) {
	m.log.Print(m.where)
	m.receivers, err = openReceivers(m.settings.receivers)
	defer m.close()
	if err != nil {
		return err
	}
	if !m.hasFloors {
		m.delay = answerTime
	}
	scenarios, err := m.scenarios(m)
	if err != nil {
		return err
	}
	m.scenario = scenarios[number]
	if err := m.start(ctx, m.load); err != nil {
		return err
	}
	if err := m.harvest(ctx); err != nil {
		return err
	}
	if m.finish != nil {
		m.finish()
	}
	for _, c := range m.measured {
		for _, p := range m.phases {
			m.printPhase(c, p)
		}
		m.check(c)
	}
	return nil
}

// load sends all changes. After the warm-up all receivers have shown that they are quick, and the instance has
// connections, and the memory that it needs for any load.
func (m *measurement) load(ctx context.Context) (err error) {
	for _, s := range m.warm {
		changes, err := m.send(ctx, s)
		if err != nil {
			return err
		}
		if err := s.agents[0].await(ctx, deliveries(changes)); err != nil {
			return err
		}
	}
	m.warmUp = m.record.Count()
	for _, c := range m.clients {
		c.confirmed.Store(0)
	}
	before := m.rest(ctx)
	if err := m.play(ctx); err != nil {
		return err
	}
	for _, c := range m.measured {
		err = errors.Join(err, c.await(ctx, deliveries(c.sent)))
	}
	m.used = m.rest(ctx)
	m.used.processor -= before.processor
	m.used.database -= before.database
	return err
}

// play sends the streams until they end, or the phases do.
func (m *measurement) play(ctx context.Context) error {
	changes := make([][]*change, len(m.streams))
	group, ctx := errgroup.WithContext(ctx)
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	for i, s := range m.streams {
		group.Go(func() (err error) {
			changes[i], err = m.send(streaming, s)
			return err
		})
	}
	group.Go(func() error {
		for i := range m.phases {
			p := &m.phases[i]
			if i > 0 { // the streams may begin before the first phase
				p.from = m.phases[i-1].to
			}
			if p.do == nil {
				return nil
			}
			m.log.Printf("%s, %s", m.where, p.part)
			if err := p.do(ctx); err != nil {
				return err
			}
			p.to = time.Now()
		}
		stop()
		return nil
	})
	err := group.Wait()
	for _, c := range slices.Concat(changes...) {
		c.client.sent = append(c.client.sent, c)
	}
	return err
}
