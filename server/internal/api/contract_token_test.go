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

// newApplicationWorks looks whether the application in a scenario's answer gets a token that is good.
func (w *world) newApplicationWorks() {
	w.Helper()
	var made gen.ApplicationSecret
	w.must(json.Unmarshal(w.reply.body, &made))
	token := w.token(made)
	a := w.send(scenario{request: "GET /client/@me", header: map[string]string{"Authorization": "Bearer " + token}})
	w.same("its own client", `{"id":"12","name":"Ringme","blocked":false}`, a.body)
}

// application makes one of client 12.
func (w *world) application(access gen.AccessLevel) gen.ApplicationSecret {
	w.Helper()
	made, err := w.store.CreateApplication(w.Context(), "12", gen.ApplicationCreate{Name: "CRM", Access: access})
	w.must(err)
	return made
}

func credentials(made gen.ApplicationSecret) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {made.ID}, "client_secret": {made.Secret}}
}

var formType = map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}

func (w *world) token(made gen.ApplicationSecret) string {
	w.Helper()
	a := w.send(scenario{request: "POST /oauth/token", body: credentials(made).Encode(), header: formType})
	return w.granted(a)
}

// granted looks at an answer that has a token.
func (w *world) granted(a *reply) string {
	w.Helper()
	var token gen.Token
	w.must(json.Unmarshal(a.body, &token))
	w.same("token", `{"access_token":"`+token.AccessToken+`","token_type":"Bearer","expires_in":3600,"scope":"all"}`, a.body)
	if a.status != http.StatusOK || len(token.AccessToken) != 30 || a.header.Get("Cache-Control") != "no-store" {
		w.Errorf("%d %s, Cache-Control %q", a.status, a.body, a.header.Get("Cache-Control"))
	}
	return token.AccessToken
}

// Whatever way the credentials come, the token is good.
func TestTokenEncodings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withClient()
	made := w.application(gen.AccessLevelAll)
	form := credentials(made).Encode()
	boundary, parts := multipartOf(credentials(made))
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(made.ID+":"+made.Secret))
	for name, s := range map[string]scenario{
		"form":                  {body: form, header: formType},
		"form with a charset":   {body: form, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "Authorization": ""}},
		"form with a scope":     {body: form + "&scope=all", header: formType},
		"form with other scope": {body: form + "&scope=read&redirect_uri=x", header: formType},
		"form of unknown size":  {body: form, header: formType, chunked: true},
		"multipart":             {body: parts, header: map[string]string{"Content-Type": "multipart/form-data; boundary=" + boundary, "Authorization": ""}},
		"query":                 {request: "?" + form, header: map[string]string{"Authorization": ""}},
		"query and empty form":  {request: "?" + form, header: formType},
		"query and JSON type":   {request: "?" + form, header: map[string]string{"Content-Type": "application/json", "Authorization": ""}},
		"query, with a slash":   {request: "/?" + form, header: map[string]string{"Authorization": ""}},
		"basic":                 {body: "grant_type=client_credentials", header: map[string]string{"Content-Type": formType["Content-Type"], "Authorization": basic}},
		"basic in lower case":   {request: "?grant_type=client_credentials", header: map[string]string{"Authorization": "basic" + strings.TrimPrefix(basic, "Basic")}},
	} {
		s.request = "POST /oauth/token" + s.request
		for _, s.atRoot = range []bool{false, true} {
			token := w.granted(w.send(s))
			a := w.send(scenario{request: "GET /client/@me/", header: map[string]string{"Authorization": "Bearer " + token}})
			if a.status != http.StatusOK {
				t.Errorf("%s, at the root %v: the token is answered %d %s", name, s.atRoot, a.status, a.body)
			}
		}
	}
}

func multipartOf(form url.Values) (boundary, body string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for name, values := range form {
		_ = m.WriteField(name, values[0]) // a buffer takes all
	}
	_ = m.Close()
	return m.Boundary(), b.String()
}

const invalidClient = `{"error":"invalid_client","error_description":"there is no application with this id and this secret",` +
	`"message":"there is no application with this id and this secret"}`

// Whatever is wrong with credentials, it is the client's mistake in OAuth's words, and never 401.
func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withClient()
	made := w.application(gen.AccessLevelAll)
	wrong := func(change func(url.Values)) string {
		form := credentials(made)
		change(form)
		return form.Encode()
	}
	for name, body := range map[string]string{
		"wrong secret":        wrong(func(f url.Values) { f.Set("client_secret", strings.Repeat("0", 32)) }),
		"empty secret":        wrong(func(f url.Values) { f.Set("client_secret", "") }),
		"no secret":           wrong(func(f url.Values) { f.Del("client_secret") }),
		"secret in capitals":  wrong(func(f url.Values) { f.Set("client_secret", strings.ToUpper(made.Secret)+"A") }),
		"malformed secret":    wrong(func(f url.Values) { f.Set("client_secret", "\x00\xff'; DROP TABLE tokens;--") }),
		"long secret":         wrong(func(f url.Values) { f.Set("client_secret", strings.Repeat("x", 8000)) }),
		"unknown id":          wrong(func(f url.Values) { f.Set("client_id", strings.Repeat("0", 32)) }),
		"malformed id":        wrong(func(f url.Values) { f.Set("client_id", "1 or 1=1") }),
		"no id":               wrong(func(f url.Values) { f.Del("client_id") }),
		"nothing but a grant": "grant_type=client_credentials",
		"id of a client":      wrong(func(f url.Values) { f.Set("client_id", "12") }),
	} {
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, a.status)
		}
		w.same(name, invalidClient, a.body)
	}
	for body, want := range map[string]string{
		"": "invalid_request", "x=%zz": "invalid_request", "grant_type=password&username=a": "unsupported_grant_type",
	} {
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		atRoot := w.send(scenario{request: "POST /oauth/token", body: body, header: formType, atRoot: true})
		w.same("at the root", string(a.body), atRoot.body)
		if a.status != http.StatusBadRequest || !strings.Contains(string(a.body), `"error":"`+want+`"`) {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
	broken := map[string]string{"Content-Type": "multipart/form-data; boundary=x", "Authorization": ""}
	a := w.send(scenario{request: "POST /oauth/token", body: "--x", header: broken})
	if a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "invalid_request") {
		t.Errorf("broken multipart: %d %s", a.status, a.body)
	}
	a = w.send(scenario{request: "POST /oauth/token", body: strings.Repeat("x", auth.MaxTokenBody+1), header: formType})
	if a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body too long: %d %s", a.status, a.body)
	}
	w.withBlocked()
	a = w.send(scenario{request: "POST /oauth/token", body: credentials(made).Encode(), header: formType})
	w.same("of a client that is blocked", invalidClient, a.body)
}

// A token is got below the API's path and at the root, with the same methods.
func TestTokenIsPosted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, path := range []string{contract.BasePath + tokenPath, tokenPath, tokenPath + "/"} {
		g := s.send(s.request("GET", path, nil))
		if g.status != http.StatusMethodNotAllowed || !strings.Contains(g.header.Get("Allow"), "POST") {
			t.Errorf("GET %s: %d %s, Allow %q", path, g.status, g.body, g.header.Get("Allow"))
		}
	}
}

// A form has few fields. More than that are not worth the work of reading them.
func TestTokenFieldsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withClient()
	made := w.application(gen.AccessLevelAll)
	for more, want := range map[int]string{17: "access_token", 18: `"the body may have at most 20 fields"`, 100: "invalid_request"} {
		form := credentials(made)
		for i := range more {
			form.Set(fmt.Sprint("x", i), "")
		}
		boundary, parts := multipartOf(form)
		multi := map[string]string{"Content-Type": "multipart/form-data; boundary=" + boundary, "Authorization": ""}
		for _, s := range []scenario{{body: form.Encode(), header: formType}, {body: parts, header: multi}} {
			s.request = "POST /oauth/token"
			if a := w.send(s); !strings.Contains(string(a.body), want) {
				t.Errorf("%d fields as %s: %d %s", more+3, s.header["Content-Type"], a.status, a.body)
			}
		}
	}
}
