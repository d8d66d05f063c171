package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The operator's application of every server in the lab.
const (
	OperatorID     = "lab"
	OperatorSecret = "a-secret-of-the-lab-alone"
)

// renewal is when a token is got anew, which is good for an hour.
const renewal = 50 * time.Minute

// Operator makes requests of a server with a token of the operator's, which it gets by itself. A request that has an
// Authorization of its own keeps it.
type Operator struct {
	URL  string            // of the server
	Base http.RoundTripper // nil means http.DefaultTransport

	mu    sync.Mutex
	token string
	since time.Time
}

// RoundTrip implements http.RoundTripper.
func (o *Operator) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		return o.base().RoundTrip(r)
	}
	token, err := o.current()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return o.base().RoundTrip(r)
}

// CloseIdleConnections is what http.Client looks for.
func (o *Operator) CloseIdleConnections() {
	(&http.Client{Transport: o.Base}).CloseIdleConnections()
}

func (o *Operator) base() http.RoundTripper {
	if o.Base == nil {
		return http.DefaultTransport
	}
	return o.Base
}

func (o *Operator) current() (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.token != "" && time.Since(o.since) < renewal {
		return o.token, nil
	}
	token, err := Token(&http.Client{Transport: o.Base}, o.URL, OperatorID, OperatorSecret)
	if err == nil {
		o.token, o.since = token, time.Now()
	}
	return token, err
}

// Token gets a token of a server for an application.
func Token(c *http.Client, server, id, secret string) (string, error) {
	Tell(secret)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	resp, err := c.Post(server+"/oauth/token", "application/x-www-form-urlencoded", strings.NewReader(form.Encode())) //nolint:noctx // takes milliseconds
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Message     string `json:"message"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get a token: %s %s (%w)", resp.Status, answer.Message, err)
	}
	return answer.AccessToken, nil
}
