package store

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"gorm.io/gorm"
)

// receiver is where requests go to, whatever their path.
type receiver struct {
	scheme string
	host   string // lower case, without the brackets of an IPv6 address
	port   int
}

// receiverOf reads the receiver out of a registered URL.
func receiverOf(raw string) (receiver, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return receiver{}, fmt.Errorf("parse the URL of an event: %w", err)
	}
	r := receiver{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: 80}
	if r.scheme == "https" {
		r.port = 443
	}
	if p := u.Port(); p != "" {
		r.port, err = strconv.Atoi(p)
	}
	return r, err
}

// ensureReceiver returns the id of a client's receiver, which it makes if there is none.
func ensureReceiver(tx *gorm.DB, client, rawURL string) (id int64, err error) {
	r, err := receiverOf(rawURL)
	if err != nil {
		return 0, err
	}
	return ensure(tx, "receivers", "client_id, scheme, host, port", client, r.scheme, r.host, r.port)
}
