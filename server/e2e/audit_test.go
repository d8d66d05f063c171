package e2e

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// With the log level debug, the log has every operation that handles a secret, and no secret. As in every test, the
// check for secrets runs when the process ends.
func TestDebugLogHasNoSecret(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := serve(t, newStore(t), "AGENTEVENTS_LOG_LEVEL=debug")
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "x")
	for _, secret := range []string{"hidden-user", "hidden-password", "hidden-query"} {
		lab.AddSecret(secret)
	}
	hidden := strings.Replace(r.URL, "http://", "http://hidden-user:hidden-password@", 1) + "/?key=hidden-query"
	event := a.createEvent(gen.AgentTypeLocal, 136, hidden, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	r.wait(t, 1)
	tested, err := a.TestLocalAgentEventWithResponse(t.Context(), pbxClient, 136, event)
	must(t, http.StatusOK, tested, err)
	rotated, err := a.RotateSecretWithResponse(t.Context(), pbxClient, nil)
	must(t, http.StatusOK, rotated, err)
	lab.AddSecret(rotated.JSON200.Secret)
	created, err := a.CreateApplicationWithResponse(t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(t, http.StatusCreated, created, err)
	requestTokens(t, p, *created.JSON201)
	revoked, err := a.DeleteApplicationWithResponse(t.Context(), pbxClient, created.JSON201.ID)
	must(t, http.StatusNoContent, revoked, err)
	equal(t, "exit code", p.stop(t), 0)
	for _, line := range []string{
		`msg=request method=PUT path=/api/ver1.0/client/12 operation=putClient status=201 .*application=lab `,
		`method=POST path=/api/ver1.0/client/12/secret/rotate operation=rotateSecret status=200 .*application=lab `,
		`method=POST path=/api/ver1.0/client/12/application/ operation=createApplication status=201 .*application=lab `,
		`method=POST path=/oauth/token operation=requestToken status=200 .*application=` + created.JSON201.ID + " ",
		`method=POST path=/oauth/token operation=requestToken status=400 .*application=` + created.JSON201.ID + " ",
		`method=DELETE path=/api/ver1.0/client/12/application/` + created.JSON201.ID +
			` operation=deleteApplication status=204 .*application=lab `,
	} {
		if !regexp.MustCompile(line).MatchString(p.Log.String()) {
			t.Errorf("the log has no line like %s", line)
		}
	}
}

// requestTokens requests tokens in every form, with right and wrong credentials.
func requestTokens(t *testing.T, p *process, created gen.ApplicationSecret) {
	t.Helper()
	_, err := lab.Token(http.DefaultClient, p.URL, created.ID, created.Secret)
	if err != nil {
		t.Error(err)
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {created.ID}, "client_secret": {created.Secret},
	}.Encode()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(created.ID+":"+created.Secret))
	lab.AddSecret(basic)
	for _, c := range []struct{ query, authorization string }{
		{"?" + form, ""},
		{"?grant_type=client_credentials", basic},
		{"?" + form + "0", ""},
		{"?grant_type=client_credentials", basic + "AAAA"},
	} {
		req, err := http.NewRequest(http.MethodPost, p.URL+"/oauth/token"+c.query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", c.authorization)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if token, err := lab.Token(http.DefaultClient, p.URL, created.ID, strings.Repeat("0", 32)); err == nil {
		t.Errorf("a wrong secret got the token %s", token)
	}
}
