package benchfill

import (
	"testing"
	"time"

	"github.com/agentevents/agentevents/store/pgtest"
)

// Grown is a filled store.
type Grown struct {
	Size
	URL string // of the database
}

// smallSize is one client with ten busy agents.
var smallSize = Size{Agents: 1000, Events: 1000, Deliveries: 1000}

// roomySettings are the settings of a PostgreSQL server with gigabytes of data: memory for frequent queries, and few
// full-page images in its log.
var roomySettings = map[string]string{
	"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
}

// manyDeliveries is the number of deliveries from which a store on PostgreSQL has its own durable server with
// roomySettings.
const manyDeliveries = 1_000_000

// Grow fills two stores on the engine of the test's process. The small one has 1,000 agents, events and deliveries. The
// large one has the given number of deliveries, at least 10,000, and a tenth as many agents and events. A client and a
// busy agent have about as many rows in both.
func Grow(t testing.TB, deliveries int) []Grown {
	t.Helper()
	create := func() string { return pgtest.URL(t) }
	if pgtest.OnPostgres() && deliveries >= manyDeliveries {
		server := pgtest.ForTest(t, pgtest.Options{Settings: roomySettings})
		create = func() string {
			url, err := server.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return url
		}
	}
	large := Size{Agents: deliveries / 10, Events: deliveries / 10, Deliveries: deliveries}
	return []Grown{fillForTest(t, create(), smallSize), fillForTest(t, create(), large)}
}

func fillForTest(t testing.TB, url string, size Size) Grown {
	t.Helper()
	if size.Deliveries < smallSize.Deliveries || size.Pairs() < smallSize.Pairs() {
		t.Fatalf("a large store must have at least %d deliveries", 10*smallSize.Deliveries)
	}
	if err := Fill(t.Context(), url, size, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	return Grown{Size: size, URL: url}
}
