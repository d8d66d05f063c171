package store

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// origin is the scheme, host and port of a URL, which identify a receiver of a client.
type origin struct {
	scheme string
	host   string // as DNS gets it; an IPv6 address without its brackets
	port   int
}

// originOf returns the origin of an event's URL.
func originOf(raw string) (origin, error) {
	scheme, host, port, err := webhook.ReceiverOf(raw)
	if err != nil {
		return unmappedOriginOf(raw)
	}
	return origin{scheme, host, port}, nil
}

// unmappedOriginOf returns the origin of a URL whose host is only put in lower case. Events that were created before
// hosts were mapped keep such a receiver until they get another URL.
func unmappedOriginOf(raw string) (origin, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return origin{}, fmt.Errorf("parse the URL of an event: %w", err)
	}
	r := origin{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: 80}
	if r.scheme == "https" {
		r.port = 443
	}
	if p := u.Port(); p != "" {
		r.port, err = strconv.Atoi(p)
	}
	return r, err
}

// isOf reports whether a URL belongs to the receiver.
func (r origin) isOf(rawURL string) bool {
	mapped, err := originOf(rawURL)
	if err == nil && mapped == r {
		return true
	}
	unmapped, err := unmappedOriginOf(rawURL)
	return err == nil && unmapped == r
}

// ensureReceiver returns the id of a client's receiver, which it creates if there is none.
func ensureReceiver(tx *sqldb.Tx, client, rawURL string) (id int64, err error) {
	r, err := originOf(rawURL)
	if err != nil {
		return 0, err
	}
	return ensure(tx, "receivers", "client_id, scheme, host, port", client, r.scheme, r.host, r.port)
}
