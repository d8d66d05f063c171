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

// With the most detailed log, every operation that handles a secret is logged, and no secret is. That no secret is
// logged is checked when the process ends, as in every test.
func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := serve(t, newStore(t), "AGENTEVENTS_LOG_LEVEL=debug")
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "x")
	for _, secret := range []string{"hidden-user", "hidden-password", "hidden-query"} {
		lab.Tell(secret)
	}
	hidden := strings.Replace(r.URL, "http://", "http://hidden-user:hidden-password@", 1) + "/?key=hidden-query"
	event := a.register(gen.AgentTypeLocal, 136, hidden, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	r.wait(t, 1)
	tested, err := a.TestLocalAgentEventWithResponse(t.Context(), pbxClient, 136, event)
	must(t, http.StatusOK, tested, err)
	rotated, err := a.RotateSecretWithResponse(t.Context(), pbxClient, nil)
	must(t, http.StatusOK, rotated, err)
	lab.Tell(rotated.JSON200.Secret)
	made, err := a.CreateApplicationWithResponse(t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(t, http.StatusCreated, made, err)
	askForTokens(t, p, *made.JSON201)
	revoked, err := a.DeleteApplicationWithResponse(t.Context(), pbxClient, made.JSON201.ID)
	must(t, http.StatusNoContent, revoked, err)
	equal(t, "exit code", p.stop(t), 0)
	for _, line := range []string{
		`msg=request method=PUT path=/api/ver1.0/client/12 operation=putClient status=201 .*application=lab `,
		`method=POST path=/api/ver1.0/client/12/secret/rotate operation=rotateSecret status=200 .*application=lab `,
		`method=POST path=/api/ver1.0/client/12/application/ operation=createApplication status=201 .*application=lab `,
		`method=POST path=/oauth/token operation=requestToken status=200 .*application=` + made.JSON201.ID + " ",
		`method=POST path=/oauth/token operation=requestToken status=400 .*application=` + made.JSON201.ID + " ",
		`method=DELETE path=/api/ver1.0/client/12/application/` + made.JSON201.ID +
			` operation=deleteApplication status=204 .*application=lab `,
	} {
		if !regexp.MustCompile(line).MatchString(p.Log.String()) {
			t.Errorf("nothing is logged like %s", line)
		}
	}
}

// askForTokens requests tokens in every form, with right and wrong credentials.
func askForTokens(t *testing.T, p *process, made gen.ApplicationSecret) {
	t.Helper()
	_, err := lab.Token(http.DefaultClient, p.URL, made.ID, made.Secret)
	if err != nil {
		t.Error(err)
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {made.ID}, "client_secret": {made.Secret},
	}.Encode()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(made.ID+":"+made.Secret))
	lab.Tell(basic)
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
	if token, err := lab.Token(http.DefaultClient, p.URL, made.ID, strings.Repeat("0", 32)); err == nil {
		t.Errorf("a wrong secret got the token %s", token)
	}
}
