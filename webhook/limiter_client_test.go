package webhook

import (
	"slices"
	"testing"
)

// takeEach takes a slot of each of the receivers from one on, until there is no room, and returns how many it took.
func takeEach(s *limiter, client string, from int64) (n int64) {
	for s.take(client, from+n) {
		n++
	}
	return n
}

// Many receivers of one client answered quickly, and begin to hang.
func TestLimiterLeavesSlotsToOtherClients(t *testing.T) {
	s := newLimiter(40, 5)
	for r := range int64(100) {
		s.learn(100+r, true, false)
		s.learn(200+r, true, false)
	}
	const slowOne, newOne, quickOne = 300, 301, 302
	s.learn(slowOne, false, false)
	s.learn(quickOne, true, false)
	if n := takeEach(s, "many", 100); n != 20 {
		t.Errorf("the first client has %d slots, want half", n)
	}
	for r := range int64(20) {
		s.late(100 + r)
	}
	if _, clients, _ := s.room(); !slices.Equal(clients, []string{"many"}) {
		t.Errorf("full clients: %v", clients)
	}
	if !s.take("quiet", slowOne) || !s.take("quiet", newOne) || !s.take("quiet", quickOne) {
		t.Error("another client's first slow, unknown or quick receiver gets no slot")
	}
	if n := takeEach(s, "other", 200); n != 9 {
		t.Errorf("the third client has %d slots, want half of the rest", n)
	}
	if s.release(100); s.take("many", 199) {
		t.Error("a client gets a slot although fewer are free than it has")
	}
}

// The slots of a client are counted as long as they are in use.
func TestLimiterForgetsIdleClients(t *testing.T) {
	s := newLimiter(40, 5)
	takeEach(s, "a", 1)
	for r := range int64(10) {
		s.late(1 + r)
		s.learn(1+r, true, true)
		s.release(1 + r)
	}
	if _, clients, _ := s.room(); len(clients) != 0 || len(s.byClient) != 0 {
		t.Errorf("full clients %v, slots %v", clients, s.byClient)
	}
}
