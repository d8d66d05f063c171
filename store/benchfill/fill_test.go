package benchfill_test

import (
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, pgtest.Suite{})) }

func TestFilledStoreIsConsistentAndWorks(t *testing.T) {
	url, size := pgtest.URL(t), benchfill.Size{Agents: 3001, Events: 5000, Deliveries: 25_000}
	var reported []int
	progress := func(done, of int) { reported = append(reported, done, of) }
	err := benchfill.Fill(t.Context(), url, size, time.Now(), progress)
	if err != nil {
		t.Fatal(err)
	}
	if len(reported) != 4 || reported[2] != 25_000 || reported[3] != 25_000 {
		t.Errorf("the progress is %v", reported)
	}
	deliveries, changes, err := benchfill.CountRows(t.Context(), url)
	if err != nil || deliveries != 25_000 || changes != 25_000 {
		t.Errorf("it has %d deliveries and %d changes: %v", deliveries, changes, err)
	}
	checkReads(t, url)
	verify(t, url)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkContinues(t, s, size)
}

// open opens a database alongside the store, until the test ends.
func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver, name := "pgx", url
	if file, isFile := strings.CutPrefix(url, "sqlite:"); isFile {
		driver, name = "sqlite3", "file:"+file
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// checkReads checks that all changes are found, and no attempt that timed out.
func checkReads(t *testing.T, url string) {
	t.Helper()
	db := open(t, url)
	ids, err := benchfill.ChangeIDs(t.Context(), db)
	if err != nil || len(ids) != 25_000 || ids[24_999] != 25_000 {
		t.Errorf("%d changes are found: %v", len(ids), err)
	}
	if late, err := benchfill.TimedOut(t.Context(), db); err != nil || len(late) > 0 {
		t.Errorf("the attempts %v timed out: %v", late, err)
	}
}

// verify checks the invariants of a store.
func verify(t *testing.T, url string) {
	t.Helper()
	err := store.Verify(t.Context(), store.Options{URL: url}, func(c store.Check) {
		if c.Count > 0 {
			t.Errorf("%s: %q", c.Name, c.Faults)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// checkContinues checks agents of each kind, and logs busy ones in.
func checkContinues(t *testing.T, s *store.Store, size benchfill.Size) {
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
		filter := store.DeliveryFilter{EventID: login, State: gen.DeliveryStateFailed}
		failed, err := s.Deliveries(t.Context(), client, filter, 0, 1000)
		if err != nil || len(failed) != 5 {
			t.Errorf("%d deliveries of event %d have failed: %v", len(failed), login, err)
		}
	}
}

func TestFillRefusesAnImpossibleSize(t *testing.T) {
	for _, size := range []benchfill.Size{
		{},
		{Agents: 10, Events: 22, Deliveries: 100},
		{Agents: 10, Events: 10, Deliveries: 600},
		{Agents: 10, Events: 10, Deliveries: 99},
	} {
		err := benchfill.Fill(t.Context(), "sqlite:/nonexistent", size, time.Now(), func(int, int) {})
		if err == nil || !strings.Contains(err.Error(), "cannot have") {
			t.Errorf("%+v: %v", size, err)
		}
	}
}

// The URLs of its events have the clone's own number.
func TestCloneHasTheEventsOfTheFirstAgent(t *testing.T) {
	ctx, url := t.Context(), pgtest.URL(t)
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int64) store.AgentKey { return store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: n} }
	_, _, err = s.PutClient(ctx, "12", gen.ClientUpdate{})
	if err == nil {
		_, err = s.CreateAgent(ctx, key(1), store.AgentUpdate{Name: new("1@example.com")})
	}
	if err == nil {
		_, err = s.CreateEvent(ctx, key(1), gen.AgentEventCreate{
			URL: "https://crm.example/12/1", Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogin,
		})
	}
	if err := errors.Join(err, s.Close(), benchfill.CloneAgent(ctx, url, 30)); err != nil {
		t.Fatal(err)
	}
	verify(t, url)
	if s, err = store.Open(ctx, store.Options{URL: url}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	events, err := s.Events(ctx, key(30), 0, 10)
	if err != nil || len(events) != 1 || events[0].URL != "https://crm.example/12/30" {
		t.Errorf("the last clone has the events %+v: %v", events, err)
	}
	st, err := s.SetStatus(ctx, key(30), gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	if err != nil || st.Deliveries != 1 {
		t.Errorf("the login of the last clone is %+v: %v", st, err)
	}
}

func TestVerifyFindsADamagedLane(t *testing.T) {
	url := pgtest.URL(t)
	size := benchfill.Size{Agents: 10, Events: 20, Deliveries: 1000}
	if err := benchfill.Fill(t.Context(), url, size, time.Now(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	if err := benchfill.DamageLane(t.Context(), open(t, url)); err != nil {
		t.Fatal(err)
	}
	faults := 0
	err := store.Verify(t.Context(), store.Options{URL: url}, func(c store.Check) { faults += c.Count })
	if err != nil || faults == 0 {
		t.Errorf("%d faults are found in a store with a lane that is damaged: %v", faults, err)
	}
}
