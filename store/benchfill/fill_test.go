package benchfill_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/cluster"
	"github.com/agentevents/agentevents/store/benchfill"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, cluster.Suite{})) }

// What fills a store is what the store might have written itself, and it goes on from there.
func TestFill(t *testing.T) {
	url, size := cluster.URL(t), benchfill.Size{Agents: 3001, Events: 5000, Deliveries: 25_000}
	var told []int
	err := benchfill.Fill(t.Context(), url, size, time.Now(), func(done, of int) { told = append(told, done, of) })
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 4 || told[2] != 25_000 || told[3] != 25_000 {
		t.Errorf("it told %v", told)
	}
	err = store.Verify(t.Context(), store.Options{URL: url}, func(c store.Check) {
		if c.Count > 0 {
			t.Errorf("%s: %q", c.Name, c.Faults)
		}
	})
	if err != nil {
		t.Error(err)
	}
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	goesOn(t, s, size)
}

// goesOn looks at agents of each sort, and has one that is busy log in.
func goesOn(t *testing.T, s *store.Store, size benchfill.Size) {
	t.Helper()
	for n, want := range map[int]int{0: 100, size.Busy() - 1: 100, size.Busy(): 0, size.Agents - 1: 0} {
		client, id, login, _ := size.Agent(n)
		k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}
		list, err := s.Deliveries(t.Context(), client, store.DeliveryFilter{AgentType: k.Type, AgentID: id}, 0, 1000)
		if err != nil || len(list) != want {
			t.Errorf("%v has %d deliveries, want %d: %v", k, len(list), want, err)
		}
		if want == 0 {
			continue
		}
		st, err := s.SetStatus(t.Context(), k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		if err != nil || st.Deliveries != 1 || st.Sequence <= int64(size.Deliveries) {
			t.Errorf("%v logs in: %+v, %v", k, st, err)
		}
		failed, err := s.Deliveries(t.Context(), client, store.DeliveryFilter{EventID: login, State: gen.DeliveryStateFailed}, 0, 1000)
		if err != nil || len(failed) != 5 {
			t.Errorf("%d deliveries of event %d have failed: %v", len(failed), login, err)
		}
	}
}

func TestFillRefuses(t *testing.T) {
	for _, size := range []benchfill.Size{
		{}, {Agents: 10, Events: 22, Deliveries: 100}, {Agents: 10, Events: 10, Deliveries: 600}, {Agents: 10, Events: 10, Deliveries: 99},
	} {
		err := benchfill.Fill(t.Context(), "sqlite:/nonexistent", size, time.Now(), func(int, int) {})
		if err == nil || !strings.Contains(err.Error(), "there cannot be") {
			t.Errorf("%+v: %v", size, err)
		}
	}
}
