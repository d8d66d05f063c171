//go:build unix

package api

import (
	"log/slog"
	"net"
	"syscall"
	"testing"
)

// The buffers of a connection in the system have a bound, which the system doubles at most.
func TestBuffersOfConnectionsAreBounded(t *testing.T) {
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(on, slog.New(slog.DiscardHandler), DefaultLimits())
	defer l.Close()
	client, err := net.Dial("tcp", on.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.(*conn).TCPConn.Close()
	raw, err := c.(*conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, bound := range map[int]int{syscall.SO_SNDBUF: sendBuffer, syscall.SO_RCVBUF: receiveBuffer} {
		err = raw.Control(func(fd uintptr) {
			size, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, option)
			if err != nil || size > 2*bound {
				t.Errorf("option %d: %d bytes %v, want at most %d", option, size, err, 2*bound)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}
