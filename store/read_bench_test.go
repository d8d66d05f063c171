package store_test

import (
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// BenchmarkRead measures the most frequent reads of clients.
func BenchmarkRead(b *testing.B) {
	f := open(b)
	realTime(f)
	k := f.agent()
	event := f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)[0]
	for range 50 {
		f.login(k)
		f.record(f.claimOne(), webhook.Delivered, false)
		f.logout(k)
		f.record(f.claimOne(), webhook.Delivered, false)
	}
	for name, read := range map[string]func() error{
		"event":  func() error { _, err := f.Event(f.ctx, k, event); return err },
		"events": func() error { _, err := f.Events(f.ctx, k, 0, 100); return err },
		"status": func() error { _, err := f.Status(f.ctx, k); return err },
		"page of the log": func() error {
			_, err := f.Deliveries(f.ctx, k.Client, store.DeliveryFilter{}, 0, 100)
			return err
		},
		"changes of an agent": func() error {
			_, _, err := f.AgentStatusChanges(f.ctx, k, 0, 100)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.check(read())
			}
		})
	}
}
