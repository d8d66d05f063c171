package api

import (
	"container/heap"
	"container/list"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/agentevents/agentevents/server/internal/request"
)

// connections are the open connections of a listener. If there are too many, idle ones are closed, so that a client
// cannot keep others out by holding connections. A connection is idle unless a request with a valid token is in
// progress on it. So a slow head and the slow body of a token request do not keep a connection open. Neither does an
// unread answer, unless the request had a valid token: that connection stays busy until the answer is written.
type connections struct {
	limits Limits

	mu    sync.Mutex
	count int
	clock uint64 // grows each time that a connection becomes idle
	peers map[netip.Prefix]*peer
	idle  evictionQueue
}

// peer is an address, or a network that counts as one, with its connections.
type peer struct {
	network netip.Prefix
	trusted bool // a proxy, behind which there are many clients
	count   int
	idle    list.List // of *conn, the one that has been idle longest first
	index   int       // in the queue, -1 if it has no idle connection
}

func newConnections(limits Limits) *connections {
	return &connections{limits: limits, peers: map[netip.Prefix]*peer{}}
}

// add adds a new connection from an address. It is idle. If its address has too many, add returns another idle one of
// that address, which must be closed in its place. If all addresses together have too many, it returns an idle one of
// any address. If there is no such idle one, it does not add the connection.
func (cs *connections) add(c *conn, from netip.Addr) (evicted *conn, ok bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	p := cs.peerOf(from)
	cs.resize(p, 1)
	switch {
	case p.count > cs.limits.ConnectionsPerAddress && !p.trusted:
		evicted, ok = p.longestIdle()
	case cs.count > cs.limits.Connections && len(cs.idle) > 0:
		evicted, ok = cs.idle[0].longestIdle()
	default:
		ok = cs.count <= cs.limits.Connections
	}
	if !ok {
		cs.resize(p, -1)
		return nil, false
	}
	if evicted != nil {
		cs.forget(evicted)
	}
	c.peer = p
	cs.append(c)
	return evicted, true
}

// setIdle has a connection be idle from now on.
func (cs *connections) setIdle(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.peer != nil {
		cs.append(c)
	}
}

// setBusy has a connection not be idle until setIdle.
func (cs *connections) setBusy(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.take(c)
}

// remove removes a connection. Twice is the same as once.
func (cs *connections) remove(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.peer != nil {
		cs.forget(c)
	}
}

func (cs *connections) forget(c *conn) {
	cs.take(c)
	p := c.peer
	c.peer = nil
	cs.resize(p, -1)
}

// append puts a connection behind the idle ones of its peer.
func (cs *connections) append(c *conn) {
	cs.clock++
	c.idleSince = cs.clock
	if c.place == nil {
		c.place = c.peer.idle.PushBack(c)
	} else {
		c.peer.idle.MoveToBack(c.place)
	}
	cs.idle.update(c.peer)
}

// take removes a connection from the idle ones, if it is one.
func (cs *connections) take(c *conn) {
	if c.place != nil {
		c.peer.idle.Remove(c.place)
		c.place = nil
		cs.idle.update(c.peer)
	}
}

// resize changes how many connections a peer has. A peer without any is forgotten.
func (cs *connections) resize(p *peer, by int) {
	cs.count += by
	p.count += by
	if p.count == 0 {
		delete(cs.peers, p.network)
	}
	cs.idle.update(p)
}

// peerOf returns the peer of an address, a new one if it has none.
func (cs *connections) peerOf(address netip.Addr) *peer {
	network := request.NetworkOf(address)
	p := cs.peers[network]
	if p == nil {
		address = address.Unmap().WithZone("")
		trusted := slices.ContainsFunc(cs.limits.TrustedProxies, func(n netip.Prefix) bool {
			return n.Contains(address)
		})
		p = &peer{network: network, trusted: trusted, index: -1}
		cs.peers[network] = p
	}
	return p
}

// longestIdle returns the connection that has been idle longest, if any is idle.
func (p *peer) longestIdle() (c *conn, ok bool) {
	if first := p.idle.Front(); first != nil {
		return first.Value.(*conn), true
	}
	return nil, false
}

// evictionQueue is a heap of the peers that have idle connections. The first one loses one next: the peer that has the
// most connections and, among equals, the one whose connection has been idle longest. Trusted proxies come last.
type evictionQueue []*peer

// update puts a peer where it belongs after a change.
func (q *evictionQueue) update(p *peer) {
	switch queued := p.index >= 0; {
	case queued && p.idle.Len() == 0:
		heap.Remove(q, p.index)
	case queued:
		heap.Fix(q, p.index)
	case p.idle.Len() > 0:
		heap.Push(q, p)
	}
}

// Len implements heap.Interface.
func (q evictionQueue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q evictionQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.trusted != b.trusted:
		return b.trusted
	case a.count != b.count:
		return a.count > b.count
	}
	first, _ := a.longestIdle()
	second, _ := b.longestIdle()
	return first.idleSince < second.idleSince
}

// Swap implements heap.Interface.
func (q evictionQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *evictionQueue) Push(p any) {
	last := p.(*peer)
	last.index = len(*q)
	*q = append(*q, last)
}

// Pop implements heap.Interface.
func (q *evictionQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	last.index = -1
	return last
}

type connKey struct{}

// withConn is an http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// markBusy has the connection of a request not be idle until its answer has ended.
func markBusy(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.on.open.setBusy(c)
	}
}
