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
	"sync"

	"github.com/agentevents/agentevents/gen"
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

// Call makes a request and reads the answer as T. The body is sent as a form if it is url.Values, not at all if it is
// nil, and else as JSON. The error is a *StatusError unless the answer has the status that is wanted.
func Call[T any](ctx context.Context, d Doer, want int, method, address string, body any) (answer T, err error) {
	req, err := newRequest(ctx, method, address, body)
	if err != nil {
		return answer, err
	}
	resp, err := d.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
	case resp.StatusCode != want:
		err = &StatusError{resp.StatusCode, want, string(bytes.TrimSpace(content))}
	case len(content) > 0:
		err = json.Unmarshal(content, &answer)
	}
	return answer, err
}

func newRequest(ctx context.Context, method, address string, body any) (req *http.Request, err error) {
	kind, content := "application/json", []byte{}
	if form, ok := body.(url.Values); ok {
		kind, content = "application/x-www-form-urlencoded", []byte(form.Encode())
	} else if body != nil {
		content, err = json.Marshal(body)
	}
	if err != nil {
		return nil, err
	}
	req, err = http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err == nil {
		req.Header.Set("Content-Type", kind)
	}
	return req, err
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

// Operator makes requests of a server with a token of an application, which it gets before the first one. A request
// that has an Authorization of its own keeps it.
type Operator struct {
	URL        string            // of the server
	ID, Secret string            // of the application; without them, OperatorID and OperatorSecret
	Base       http.RoundTripper // nil means http.DefaultTransport

	mu    sync.Mutex
	token string
}

// RoundTrip implements http.RoundTripper.
func (o *Operator) RoundTrip(r *http.Request) (*http.Response, error) {
	base := cmp.Or(o.Base, http.DefaultTransport)
	if r.Header.Get("Authorization") == "" {
		token, err := o.Token()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return base.RoundTrip(r)
}

// Token returns the token, which is valid for an hour.
func (o *Operator) Token() (token string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.token == "" {
		o.token, err = Token(&http.Client{Transport: o.Base}, o.URL,
			cmp.Or(o.ID, OperatorID), cmp.Or(o.Secret, OperatorSecret))
	}
	return o.token, err
}

// Token gets a token of a server for an application.
func Token(d Doer, server, id, secret string) (string, error) {
	Tell(secret)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	answer, err := Call[gen.Token](context.Background(), d, http.StatusOK, http.MethodPost, server+"/oauth/token", form)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return answer.AccessToken, nil
}
