package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/contract"
)

// wantWorkingApplication checks that the application in the answer gets a valid token.
func (ts *testServer) wantWorkingApplication() {
	ts.Helper()
	var created gen.ApplicationSecret
	ts.must(json.Unmarshal(ts.response.body, &created))
	token := ts.token(created)
	resp := ts.send(scenario{request: "GET /client/@me", header: map[string]string{"Authorization": "Bearer " + token}})
	ts.wantJSON("the application's client", `{"id":"12","name":"Ringme","blocked":false}`, resp.body)
}

// application creates an application of client 12.
func (ts *testServer) application(access gen.AccessLevel) gen.ApplicationSecret {
	ts.Helper()
	created, err := ts.store.CreateApplication(ts.Context(), "12", gen.ApplicationCreate{Name: "CRM", Access: access})
	ts.must(err)
	return created
}

func credentials(created gen.ApplicationSecret) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {created.ID}, "client_secret": {created.Secret},
	}
}

var formType = map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}

func (ts *testServer) token(created gen.ApplicationSecret) string {
	ts.Helper()
	resp := ts.send(scenario{request: "POST /oauth/token", body: credentials(created).Encode(), header: formType})
	return ts.wantToken(resp)
}

// wantToken checks an answer with a token, and returns the token.
func (ts *testServer) wantToken(resp *apiResponse) string {
	ts.Helper()
	var token gen.Token
	ts.must(json.Unmarshal(resp.body, &token))
	ts.wantJSON("token", `{"access_token":"`+token.AccessToken+
		`","token_type":"Bearer","expires_in":3600,"scope":"all"}`, resp.body)
	if resp.status != http.StatusOK || len(token.AccessToken) != 30 || resp.header.Get("Cache-Control") != "no-store" {
		ts.Errorf("%d %s, Cache-Control %q", resp.status, resp.body, resp.header.Get("Cache-Control"))
	}
	return token.AccessToken
}

// Every form of the credentials yields a valid token.
func TestTokenRequestAcceptsEveryEncoding(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	created := ts.application(gen.AccessLevelAll)
	form := credentials(created).Encode()
	boundary, parts := multipartOf(credentials(created))
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(created.ID+":"+created.Secret))
	for name, s := range map[string]scenario{
		"form": {body: form, header: formType},
		"form with a charset": {
			body: form,
			header: map[string]string{
				"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "Authorization": "",
			},
		},
		"form with a scope":       {body: form + "&scope=all", header: formType},
		"form with another scope": {body: form + "&scope=read&redirect_uri=x", header: formType},
		"form of unknown size":    {body: form, header: formType, chunked: true},
		"multipart": {
			body:   parts,
			header: map[string]string{"Content-Type": "multipart/form-data; boundary=" + boundary, "Authorization": ""},
		},
		"query":                {request: "?" + form, header: map[string]string{"Authorization": ""}},
		"query and empty form": {request: "?" + form, header: formType},
		"query and JSON type": {
			request: "?" + form, header: map[string]string{"Content-Type": "application/json", "Authorization": ""},
		},
		"query, with a slash": {request: "/?" + form, header: map[string]string{"Authorization": ""}},
		"basic": {
			body:   "grant_type=client_credentials",
			header: map[string]string{"Content-Type": formType["Content-Type"], "Authorization": basic},
		},
		"basic in lower case": {
			request: "?grant_type=client_credentials",
			header:  map[string]string{"Authorization": "basic" + strings.TrimPrefix(basic, "Basic")},
		},
	} {
		s.request = "POST /oauth/token" + s.request
		for _, s.atRoot = range []bool{false, true} {
			token := ts.wantToken(ts.send(s))
			resp := ts.send(scenario{
				request: "GET /client/@me/", header: map[string]string{"Authorization": "Bearer " + token},
			})
			if resp.status != http.StatusOK {
				t.Errorf("%s, at the root %v: a request with the token gets %d %s", name, s.atRoot,
					resp.status, resp.body)
			}
		}
	}
}

func multipartOf(form url.Values) (boundary, body string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for name, values := range form {
		_ = m.WriteField(name, values[0]) // cannot fail: a buffer accepts all bytes
	}
	_ = m.Close()
	return m.Boundary(), b.String()
}

const invalidClient = `{"error":"invalid_client","error_description":"there is no application with this id and this ` +
	`secret",` +
	`"message":"there is no application with this id and this secret"}`

// Wrong credentials get OAuth's errors, and never 401.
func TestTokenRefusalsHaveTheFormOfOAuth(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	created := ts.application(gen.AccessLevelAll)
	wrong := func(change func(url.Values)) string {
		form := credentials(created)
		change(form)
		return form.Encode()
	}
	for name, body := range map[string]string{
		"wrong secret":       wrong(func(f url.Values) { f.Set("client_secret", strings.Repeat("0", 32)) }),
		"empty secret":       wrong(func(f url.Values) { f.Set("client_secret", "") }),
		"no secret":          wrong(func(f url.Values) { f.Del("client_secret") }),
		"secret in capitals": wrong(func(f url.Values) { f.Set("client_secret", strings.ToUpper(created.Secret)+"A") }),
		"malformed secret":   wrong(func(f url.Values) { f.Set("client_secret", "\x00\xff'; DROP TABLE tokens;--") }),
		"long secret":        wrong(func(f url.Values) { f.Set("client_secret", strings.Repeat("x", 8000)) }),
		"unknown id":         wrong(func(f url.Values) { f.Set("client_id", strings.Repeat("0", 32)) }),
		"malformed id":       wrong(func(f url.Values) { f.Set("client_id", "1 or 1=1") }),
		"no id":              wrong(func(f url.Values) { f.Del("client_id") }),
		"only a grant type":  "grant_type=client_credentials",
		"id of a client":     wrong(func(f url.Values) { f.Set("client_id", "12") }),
	} {
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if resp.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, resp.status)
		}
		ts.wantJSON(name, invalidClient, resp.body)
	}
	for body, want := range map[string]string{
		"": "invalid_request", "x=%zz": "invalid_request", "grant_type=password&username=a": "unsupported_grant_type",
	} {
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		atRoot := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType, atRoot: true})
		ts.wantJSON("at the root", string(resp.body), atRoot.body)
		if resp.status != http.StatusBadRequest || !strings.Contains(string(resp.body), `"error":"`+want+`"`) {
			t.Errorf("%q: %d %s", body, resp.status, resp.body)
		}
	}
	broken := map[string]string{"Content-Type": "multipart/form-data; boundary=x", "Authorization": ""}
	resp := ts.send(scenario{request: "POST /oauth/token", body: "--x", header: broken})
	if resp.status != http.StatusBadRequest || !strings.Contains(string(resp.body), "invalid_request") {
		t.Errorf("broken multipart: %d %s", resp.status, resp.body)
	}
	resp = ts.send(scenario{
		request: "POST /oauth/token", body: strings.Repeat("x", auth.MaxTokenBody+1), header: formType,
	})
	if resp.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body above the limit: %d %s", resp.status, resp.body)
	}
	ts.withBlocked()
	resp = ts.send(scenario{request: "POST /oauth/token", body: credentials(created).Encode(), header: formType})
	ts.wantJSON("a blocked client", invalidClient, resp.body)
}

// Tokens are issued below the base path and at the root, with the same methods.
func TestTokenRequestMustBeAPost(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	for _, path := range []string{contract.BasePath + tokenPath, tokenPath, tokenPath + "/"} {
		g := ls.send(ls.request("GET", path, nil))
		if g.status != http.StatusMethodNotAllowed || !strings.Contains(g.header.Get("Allow"), "POST") {
			t.Errorf("GET %s: %d %s, Allow %q", path, g.status, g.body, g.header.Get("Allow"))
		}
	}
}

// The number of fields in the form is limited.
func TestTokenFieldsAreLimited(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	created := ts.application(gen.AccessLevelAll)
	for more, want := range map[int]string{
		17: "access_token", 18: `"the body may have at most 20 fields"`, 100: "invalid_request",
	} {
		form := credentials(created)
		for i := range more {
			form.Set(fmt.Sprint("x", i), "")
		}
		boundary, parts := multipartOf(form)
		multi := map[string]string{"Content-Type": "multipart/form-data; boundary=" + boundary, "Authorization": ""}
		for _, s := range []scenario{{body: form.Encode(), header: formType}, {body: parts, header: multi}} {
			s.request = "POST /oauth/token"
			if resp := ts.send(s); !strings.Contains(string(resp.body), want) {
				t.Errorf("%d fields as %s: %d %s", more+3, s.header["Content-Type"], resp.status, resp.body)
			}
		}
	}
}

// Parts beyond the bound cost nothing, since they are not parsed.
func TestTokenPartsBeyondTheBoundAreNotRead(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	part := "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n"
	header := map[string]string{"Content-Type": "multipart/form-data; boundary=x", "Authorization": ""}
	for parts, want := range map[int]string{
		20: "the body must be valid multipart/form-data", 21: "the body may have at most 20 fields",
	} {
		resp := ts.send(scenario{
			request: "POST /oauth/token", body: strings.Repeat(part, parts) + "--x\r\nmalformed", header: header,
		})
		if !strings.Contains(string(resp.body), want) {
			t.Errorf("%d parts before a malformed one: %d %s", parts, resp.status, resp.body)
		}
	}
}
