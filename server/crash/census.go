package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// connection is one that a receiver has.
type connection struct {
	from, to string       // the ports of the two ends, as Linux writes them
	replica  atomic.Int32 // which has made it, from 1; 0 as long as it is not known
}

// census finds out which replicas have made connections. It can on Linux alone; elsewhere it is not known of any.
type census struct {
	replicas []*replica
	asked    chan *connection
}

func newCensus(ctx context.Context, replicas []*replica) *census {
	c := &census{replicas: replicas, asked: make(chan *connection, 1<<12)}
	go c.count(ctx)
	return c
}

// look returns a connection of which somebody finds out whose it is.
func (c *census) look(conn net.Conn) *connection {
	x := &connection{from: port(conn.RemoteAddr()), to: port(conn.LocalAddr())}
	select {
	case c.asked <- x:
	default: // there are too many
	}
	return x
}

func port(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return fmt.Sprintf(":%04X", tcp.Port)
}

// count looks at all connections that are asked for, at once.
func (c *census) count(ctx context.Context) {
	for {
		var asked []*connection
		select {
		case x := <-c.asked:
			asked = append(asked, x)
		case <-ctx.Done():
			return
		}
		for range len(c.asked) {
			asked = append(asked, <-c.asked)
		}
		owners, sockets := c.owners(), sockets()
		for _, x := range asked {
			x.replica.Store(owners[sockets[x.from+x.to]])
		}
	}
}

// owners are the replicas by the links to their sockets.
func (c *census) owners() map[string]int32 {
	owners := map[string]int32{}
	for _, r := range c.replicas {
		s := r.running()
		if s == nil {
			continue
		}
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID())) // the pattern is a good one
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil {
				owners[to] = int32(r.number) //nolint:gosec // from 1 to 4
			}
		}
	}
	return owners
}

// sockets are the links to all sockets of this machine by their two ports, see proc(5).
func sockets() map[string]string {
	links := map[string]string{}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return links
	}
	for line := range strings.Lines(string(table)) {
		field := strings.Fields(line)
		if len(field) < 10 {
			continue
		}
		_, from, _ := strings.Cut(field[1], ":")
		_, to, _ := strings.Cut(field[2], ":")
		links[":"+from+":"+to] = "socket:[" + field[9] + "]"
	}
	return links
}
