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
	if on.api, err = new(net.ListenConfig).Listen(ctx, "tcp", c.addr); err != nil || c.metricsAddr == "" {
		return on, err
	}
	if on.metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", c.metricsAddr); err != nil {
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

// urlOf returns the URL at which this machine reaches a listener.
func urlOf(on net.Listener) string {
	return "http://" + strings.NewReplacer("[::]", "localhost", "0.0.0.0", "localhost").Replace(on.Addr().String())
}
