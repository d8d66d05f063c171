package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// listeners are the program's listeners.
type listeners struct {
	api, metrics net.Listener // metrics is nil for none
}

// listen opens both listeners. serve calls it before it opens the store, so that it reports an address in use first.
func listen(ctx context.Context, c config) (on listeners, err error) {
	// Every wait for a client has a time limit. So probes of TCP are not needed, which cost four system calls for each
	// connection, a tenth of the processor time of one that sends nothing.
	tcp := net.ListenConfig{KeepAlive: -1}
	if on.api, err = tcp.Listen(ctx, "tcp", c.addr); err != nil || c.metricsAddr == "" {
		return on, err
	}
	if on.metrics, err = tcp.Listen(ctx, "tcp", c.metricsAddr); err != nil {
		return on, errors.Join(fmt.Errorf("listen for metrics: %w", err), on.api.Close())
	}
	return on, nil
}

func (on listeners) close() error {
	if on.metrics == nil {
		return on.api.Close()
	}
	return errors.Join(on.api.Close(), on.metrics.Close())
}

func (on listeners) count() int {
	if on.metrics == nil {
		return 1
	}
	return 2
}

// secretPorts are the ports that no receiver may have at this machine: metrics and profiles require no token. The API's
// port is none of them, because the API requires one.
func (on listeners) secretPorts() []uint16 {
	if on.metrics == nil {
		return nil
	}
	port := on.metrics.Addr().(*net.TCPAddr).Port
	return []uint16{uint16(port)} //nolint:gosec // a port has 16 bits
}

// urlOf returns the URL at which this machine reaches a listener.
func urlOf(on net.Listener) string {
	return "http://" + strings.NewReplacer("[::]", "localhost", "0.0.0.0", "localhost").Replace(on.Addr().String())
}
