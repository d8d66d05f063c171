package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/procfs"

	"github.com/agentevents/agentevents/server/lab"
)

// owner returns the number of the server that has made a connection, as an atomic.Int32: it is 0 until that is known,
// and always on a machine without proc(5).
func (c *crash) owner(conn net.Conn) any {
	number := new(atomic.Int32)
	from, to := port(conn.RemoteAddr()), port(conn.LocalAddr())
	go func() { number.Store(c.ownerOf(socketOf(from, to))) }()
	return number
}

// ownerOf is the server that has a socket.
func (c *crash) ownerOf(socket string) int32 {
	for _, r := range c.replicas {
		s := r.life.Load()
		if s == nil {
			continue
		}
		p, err := procfs.NewProc(s.PID())
		if err != nil {
			continue
		}
		if all, _ := p.FileDescriptorTargets(); slices.Contains(all, socket) {
			return int32(r.number) //nolint:gosec // from 1 to 4
		}
	}
	return 0
}

// port is a port as Linux writes it.
func port(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return fmt.Sprintf(":%04X", tcp.Port)
}

// socketOf is what a file descriptor of the socket with two ports links to.
func socketOf(from, to string) string {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		field := strings.Fields(line)
		if len(field) > 9 && strings.HasSuffix(field[1], from) && strings.HasSuffix(field[2], to) {
			return "socket:[" + field[9] + "]"
		}
	}
	return ""
}

// senderOf is which server has sent a request, 0 if that is not known.
func senderOf(a *lab.Arrival) int {
	number, ok := a.Peer.(*atomic.Int32)
	if !ok {
		return 0
	}
	return int(number.Load())
}
