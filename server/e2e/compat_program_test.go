package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
)

// programForms are whole programs that keep a token, and request another one when they need it.
var programForms = map[string]func(*originalClient){
	"uses the Go client, with credentials that request tokens automatically": func(c *originalClient) {
		credentials := &clientCredentials{
			URL: c.server.URL + "/oauth/token", ID: c.application.ID, Secret: c.application.Secret,
		}
		sdk := c.sdk(credentials)
		ctx := c.Context()
		create := gen.AgentEventCreate{URL: showURL, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
		created, err := sdk.CreateLocalAgentEventWithResponse(ctx, "@me", 136, nil, create)
		must(c, http.StatusCreated, created, err)
		listed, err := sdk.ListLocalAgentEventsWithResponse(ctx, "@me", 136, nil)
		must(c, http.StatusOK, listed, err)
		equal(c, "list", fmt.Sprint(*listed.JSON200), fmt.Sprint([]gen.AgentEvent{*created.JSON201}))
		method := gen.RequestMethodPOST
		updated, err := sdk.UpdateLocalAgentEventWithResponse(ctx, "@me", 136, created.JSON201.ID,
			gen.AgentEventUpdate{Method: &method})
		must(c, http.StatusOK, updated, err)
		equal(c, "event", fmt.Sprint(*updated.JSON200), fmt.Sprint(gen.AgentEvent{
			ID: created.JSON201.ID, URL: showURL, Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogin,
		}))
		deleted, err := sdk.DeleteLocalAgentEventWithResponse(ctx, "@me", 136, created.JSON201.ID)
		must(c, http.StatusNoContent, deleted, err)
		equal(c, "requests for tokens", credentials.tokenRequests, 1)
	},
	"requests one new token after a 401": func(c *originalClient) {
		credentials := &clientCredentials{
			URL: c.server.URL + "/oauth/token", ID: c.application.ID, Secret: c.application.Secret, retry: true,
		}
		credentials.keep("a token that has expired", time.Hour)
		got, err := c.sdk(credentials).GetUserWithResponse(c.Context())
		must(c, http.StatusOK, got, err)
		equal(c, "requests for tokens", credentials.tokenRequests, 1)
	},
	"requests no new token after a 403": func(c *originalClient) {
		credentials := &clientCredentials{
			URL: c.server.URL + "/oauth/token", ID: c.application.ID, Secret: c.application.Secret, retry: true,
		}
		sdk := c.sdk(credentials)
		for range 3 {
			got, err := sdk.GetClientWithResponse(c.Context(), "1")
			must(c, http.StatusForbidden, got, err)
		}
		equal(c, "requests for tokens", credentials.tokenRequests, 1)
	},
	"stops after its application was revoked": func(c *originalClient) {
		credentials := &clientCredentials{
			URL: c.server.URL + "/oauth/token", ID: c.application.ID, Secret: c.application.Secret, retry: true,
		}
		sdk := c.sdk(credentials)
		got, err := sdk.GetUserWithResponse(c.Context())
		must(c, http.StatusOK, got, err)
		c.pbx("DELETE", "/application/"+c.application.ID, "", http.StatusNoContent)
		var refused *tokenRefused
		eventually(c, "the program is refused", func() bool {
			_, err := sdk.GetUserWithResponse(c.Context())
			return errors.As(err, &refused)
		})
		equal(c, "error", refused.Code, "invalid_client")
		// One succeeded; then one by HTTP Basic and one by a form failed.
		equal(c, "requests for tokens", credentials.tokenRequests, 3)
	},
}

func (c *originalClient) sdk(credentials *clientCredentials) *client.ClientWithResponses {
	c.Helper()
	sdk, err := client.NewClientWithResponses(c.server.URL+"/api/ver1.0",
		client.WithHTTPClient(&http.Client{Transport: credentials}))
	c.must(err)
	return sdk
}

// clientCredentials behaves as Go's usual library for OAuth 2.0. It requests a token by HTTP Basic and, if that is
// refused with any status, by a form. It requires JSON, and renews a token that is about to expire.
type clientCredentials struct {
	URL, ID, Secret string
	retry           bool // repeat a request that got 401, with a new token

	mu            sync.Mutex
	token         string
	expiry        time.Time
	tokenRequests int // number of requests for a token
}

type tokenRefused struct {
	Status int
	Code   string `json:"error"`
}

func (e *tokenRefused) Error() string { return fmt.Sprintf("no token: %d %s", e.Status, e.Code) }

func (c *clientCredentials) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.send(r)
	if err != nil || !c.retry || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	_ = resp.Body.Close()
	c.keep("", 0)
	return c.send(r)
}

func (c *clientCredentials) send(r *http.Request) (*http.Response, error) {
	token, err := c.current(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return http.DefaultTransport.RoundTrip(r)
}

func (c *clientCredentials) keep(token string, life time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.expiry = token, time.Now().Add(life)
}

func (c *clientCredentials) current(ctx context.Context) (string, error) {
	c.mu.Lock()
	token, valid := c.token, time.Now().Add(10*time.Second).Before(c.expiry)
	c.mu.Unlock()
	if token != "" && valid {
		return token, nil
	}
	var err error
	for _, basic := range []bool{true, false} {
		var life time.Duration
		if token, life, err = c.request(ctx, basic); err == nil {
			c.keep(token, life)
			return token, nil
		}
	}
	return "", err
}

func (c *clientCredentials) request(ctx context.Context, basic bool) (string, time.Duration, error) {
	c.tokenRequests++
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"all"}}
	if !basic {
		form.Set("client_id", c.ID)
		form.Set("client_secret", c.Secret)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if basic {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		tokenRefused
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int32  `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", 0, fmt.Errorf("no token: %w", err)
	}
	if resp.StatusCode/100 != 2 || !strings.EqualFold(answer.TokenType, "bearer") {
		answer.Status = resp.StatusCode
		return "", 0, &answer.tokenRefused
	}
	return answer.AccessToken, time.Duration(answer.ExpiresIn) * time.Second, nil
}
