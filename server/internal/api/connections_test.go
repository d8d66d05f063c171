package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

var testProxy = netip.MustParsePrefix("10.0.0.0/8")

// openConnections are connections and what a test knows of them.
type openConnections struct {
	*connections
	from map[*conn]string
}

func newOpenConnections(all, perAddress int) *openConnections {
	limits := Limits{Connections: all, ConnectionsPerAddress: perAddress, TrustedProxies: []netip.Prefix{testProxy}}
	return &openConnections{newConnections(limits), map[*conn]string{}}
}

// connect adds a connection from an address. It returns nil if it is refused.
func (o *openConnections) connect(from string) (c, evicted *conn) {
	c = &conn{}
	evicted, ok := o.add(c, netip.MustParseAddr(from))
	delete(o.from, evicted)
	if !ok {
		return nil, evicted
	}
	o.from[c] = from
	return c, evicted
}

func TestLongestIdleIsEvicted(t *testing.T) {
	for name, c := range map[string]struct {
		all, perAddress int
		open            []string // in this order, the first is idle longest; "!" stands for one that is not idle
		from            string
		want            int // index of the one that is evicted, -1 for none, -2 if the new one is refused
	}{
		"room":                                    {3, 3, []string{"1.1.1.1", "1.1.1.1"}, "1.1.1.1", -1},
		"the address is full":                     {9, 2, []string{"2.2.2.2", "1.1.1.1", "1.1.1.1"}, "1.1.1.1", 1},
		"all is full":                             {3, 3, []string{"2.2.2.2", "1.1.1.1", "1.1.1.1"}, "3.3.3.3", 1},
		"equal ones":                              {2, 2, []string{"2.2.2.2", "1.1.1.1"}, "3.3.3.3", 0},
		"one is not idle":                         {3, 3, []string{"!1.1.1.1", "1.1.1.1", "2.2.2.2"}, "3.3.3.3", 1},
		"the address that has most is not idle":   {3, 3, []string{"!1.1.1.1", "!1.1.1.1", "2.2.2.2"}, "3.3.3.3", 2},
		"none of the address is idle":             {9, 1, []string{"!1.1.1.1", "2.2.2.2"}, "1.1.1.1", -2},
		"none is idle":                            {2, 2, []string{"!1.1.1.1", "!2.2.2.2"}, "3.3.3.3", -2},
		"a /64 is one address":                    {9, 1, []string{"2001:db8::1"}, "2001:db8::2", 0},
		"another /64 is another":                  {9, 1, []string{"2001:db8::1"}, "2001:db8:0:1::1", -1},
		"a proxy has no bound of its own":         {9, 1, []string{"10.1.1.1", "10.1.1.1"}, "10.1.1.1", -1},
		"a proxy comes last":                      {3, 3, []string{"10.1.1.1", "10.1.1.1", "1.1.1.1"}, "2.2.2.2", 2},
		"a proxy if no other one has an idle one": {2, 2, []string{"10.1.1.1", "!1.1.1.1"}, "2.2.2.2", 0},
		"the new one's address has most":          {3, 3, []string{"!1.1.1.1", "!1.1.1.1", "2.2.2.2"}, "1.1.1.1", 2},
	} {
		o := newOpenConnections(c.all, c.perAddress)
		var open []*conn
		for _, from := range c.open {
			busy := from[0] == '!'
			if busy {
				from = from[1:]
			}
			added, _ := o.connect(from)
			if open = append(open, added); busy {
				o.setBusy(added)
			}
		}
		added, evicted := o.connect(c.from)
		got := slices.Index(open, evicted)
		if added == nil {
			got = -2
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestIdleAgainIsYoungest(t *testing.T) {
	o := newOpenConnections(2, 2)
	first, _ := o.connect("1.1.1.1")
	second, _ := o.connect("1.1.1.1")
	o.setBusy(first)
	o.setIdle(first)
	if _, evicted := o.connect("1.1.1.1"); evicted != second {
		t.Error("the one that was busy last is evicted")
	}
	o.remove(first)
	o.remove(first)
	o.setIdle(second)
	if o.count != 1 {
		t.Errorf("%d are open", o.count)
	}
}

// Whatever happens, the bounds hold, and the one that is evicted is the one that a search of all would find.
func TestConnectionsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOpenConnections(8, 4)
		pick := func(t *rapid.T) *conn {
			var all []*conn
			for c := range o.from {
				all = append(all, c)
			}
			if len(all) == 0 {
				t.Skip("none is open")
			}
			slices.SortFunc(all, func(a, b *conn) int { return int(a.idleSince) - int(b.idleSince) })
			return rapid.SampledFrom(all).Draw(t, "connection")
		}
		addresses := rapid.SampledFrom([]string{"1.1.1.1", "2.2.2.2", "3.3.3.3", "10.1.1.1"})
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) {
				from := addresses.Draw(t, "address")
				want, wantOK := o.search(from)
				if c, evicted := o.connect(from); (c != nil) != wantOK || evicted != want {
					t.Fatalf("%v from %s evicts %v, want %v", c != nil, from, evicted, want)
				}
			},
			"busy":   func(t *rapid.T) { o.setBusy(pick(t)) },
			"idle":   func(t *rapid.T) { o.setIdle(pick(t)) },
			"remove": func(t *rapid.T) { c := pick(t); o.remove(c); delete(o.from, c) },
			"": func(t *rapid.T) {
				if err := o.inconsistency(); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// search looks at all connections for the one that a new one from an address evicts.
func (o *openConnections) search(from string) (evicted *conn, ok bool) {
	counts := map[string]int{}
	for _, address := range o.from {
		counts[address]++
	}
	own := counts[from] >= o.limits.ConnectionsPerAddress && !testProxy.Contains(netip.MustParseAddr(from))
	if !own && len(o.from) < o.limits.Connections {
		return nil, true
	}
	counts[from]++
	rank := func(c *conn) []int {
		address := o.from[c]
		trusted := 0
		if testProxy.Contains(netip.MustParseAddr(address)) {
			trusted = 1
		}
		return []int{trusted, -counts[address], int(c.idleSince)}
	}
	for c, address := range o.from {
		if c.place == nil || own && address != from {
			continue
		}
		if evicted == nil || slices.Compare(rank(c), rank(evicted)) < 0 {
			evicted = c
		}
	}
	return evicted, evicted != nil
}

func (o *openConnections) inconsistency() error {
	counts := map[netip.Prefix]int{}
	for c := range o.from {
		counts[c.peer.network]++
	}
	if o.count != len(o.from) || o.count > o.limits.Connections || len(counts) != len(o.peers) {
		return fmt.Errorf("%d connections of %d peers are counted, there are %d of %d", o.count, len(o.peers),
			len(o.from), len(counts))
	}
	for network, p := range o.peers {
		if p.count != counts[network] || (p.index >= 0) != (p.idle.Len() > 0) {
			return fmt.Errorf("%v has %d connections and is counted %d, index %d, %d idle", network, counts[network],
				p.count, p.index, p.idle.Len())
		}
	}
	return nil
}

// Another goroutine runs between requests that a client sends without waiting for answers.
func TestConnectionYieldsBetweenRequests(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	o := newOpenConnections(2, 2)
	c, _ := o.connect("1.1.1.1")
	c.on = &listener{open: o.connections}
	var other atomic.Bool
	go other.Store(true)
	for range 2 { // the scheduler may choose this goroutine once more
		followState(c, http.StateIdle)
	}
	if !other.Load() {
		t.Error("a goroutine that was ready did not run")
	}
}
