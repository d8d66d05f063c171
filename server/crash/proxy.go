package main

import (
	"context"
	"errors"
	"net"
	"sync"
)

// proxy is the network between a server and the database. It can swallow what goes through, unnoticed by both.
type proxy struct {
	listener net.Listener
	network  string // of the database, and
	address  string
	gate     sync.RWMutex // is held for writing while nothing goes through
}

func newProxy(network, address string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, network: network, address: address}
	go p.serve() // until close
	return p, nil
}

func (p *proxy) close() { _ = p.listener.Close() }

func (p *proxy) serve() {
	for {
		from, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go p.join(from)
		}
	}
}

// join carries what is said on a connection, until either side ends it.
func (p *proxy) join(from net.Conn) {
	to, err := new(net.Dialer).DialContext(context.Background(), p.network, p.address)
	if err != nil {
		_ = from.Close()
		return
	}
	go p.carry(from, to)
	p.carry(to, from)
}

func (p *proxy) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	text := make([]byte, 1<<15)
	for {
		n, err := from.Read(text)
		if err != nil {
			return
		}
		p.gate.RLock()
		_, err = to.Write(text[:n])
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// cut lets nothing through until it is restored.
func (p *proxy) cut() (restore func() error) {
	p.gate.Lock()
	return func() error {
		p.gate.Unlock()
		return nil
	}
}
