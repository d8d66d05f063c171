package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/gen/client"
)

// The operator's application of every server in the lab.
const (
	OperatorID     = "lab"
	OperatorSecret = "a-secret-of-the-lab-alone"
)

// APIPath is where the API is on a server.
const APIPath = "/api/ver1.0"

// NewClient returns the generated client of a server, by URL. It makes its requests as the operator.
func NewClient(server string, base http.RoundTripper) (*client.ClientWithResponses, error) {
	return client.NewClientWithResponses(server+APIPath,
		client.WithHTTPClient(&http.Client{Transport: &Operator{URL: server, Base: base}}))
}

// Doer makes requests, as http.Client does.
type Doer interface {
	Do(req *http.Request) (*http.Response, error)
}

// StatusError is an answer with another status than the one that was wanted.
type StatusError struct {
	Status, Want int
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the answer is %d and not %d: %s", e.Status, e.Want, e.Body)
}

// Call makes a request with a body as JSON, unless that is nil, and reads the answer as T. The error is a *StatusError
// unless the answer has the status that is wanted.
func Call[T any](ctx context.Context, d Doer, want int, method, url string, body any) (answer T, err error) {
	content, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return answer, err
	}
	if req.Header.Set("Content-Type", "application/json"); body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	resp, err := d.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	content, err = io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return answer, err
	case resp.StatusCode != want:
		return answer, &StatusError{resp.StatusCode, want, string(bytes.TrimSpace(content))}
	case len(content) > 0:
		err = json.Unmarshal(content, &answer)
	}
	return answer, err
}

// Answered returns an error unless a request was answered with a status.
func Answered(want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) error {
	if err != nil {
		return err
	}
	if resp.StatusCode() != want {
		return &StatusError{resp.StatusCode(), want, string(bytes.TrimSpace(resp.GetBody()))}
	}
	return nil
}

// renewal is how old a token gets, which is valid for an hour.
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
func (o *Operator) CloseIdleConnections() { (&http.Client{Transport: o.Base}).CloseIdleConnections() }

func (o *Operator) base() http.RoundTripper { return cmp.Or(o.Base, http.DefaultTransport) }

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
	//nolint:noctx // takes milliseconds
	resp, err := c.Post(server+"/oauth/token", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
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
