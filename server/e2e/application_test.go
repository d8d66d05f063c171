package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// tokenOf requests a token and returns it, or the text of the refusal.
func tokenOf(t *testing.T, p *process, made gen.ApplicationSecret) (token, refusal string) {
	t.Helper()
	token, err := lab.Token(http.DefaultClient, p.URL, made.ID, made.Secret)
	if err != nil {
		return "", err.Error()
	}
	return token, ""
}

// statusOf returns how the server answers a token: the code, and the status of the error.
func statusOf(t *testing.T, p *process, token string) (code int, status string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/api/ver1.0/user/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e gen.ErrorResponse
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err != nil {
		t.Fatalf("%d %s: %v", resp.StatusCode, body, err)
	}
	return resp.StatusCode, e.Status
}

// eventuallyAnswers waits until the server answers a token with a code and a status.
func eventuallyAnswers(t *testing.T, p *process, token string, code int, status string) {
	t.Helper()
	eventually(t, "a token is answered "+http.StatusText(code)+" "+status, func() bool {
		gotCode, gotStatus := statusOf(t, p, token)
		return gotCode == code && gotStatus == status
	})
}

// accepts checks that the server accepts a token now.
func accepts(t *testing.T, p *process, token string) {
	t.Helper()
	if code, status := statusOf(t, p, token); code != http.StatusOK {
		t.Errorf("the token is answered %d %s", code, status)
	}
}

// An application that is revoked, or whose client is blocked, gets no more tokens, and soon its tokens are refused.
func TestRevokedAndBlockedApplicationsLoseAccess(t *testing.T) {
	t.Parallel()
	p := serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	blocked := func(is bool) {
		resp, err := a.PutClientWithResponse(t.Context(), pbxClient, gen.ClientUpdate{Blocked: &is})
		must(t, http.StatusOK, resp, err)
	}
	made, err := a.CreateApplicationWithResponse(t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(t, http.StatusCreated, made, err)
	token, _ := tokenOf(t, p, *made.JSON201)
	accepts(t, p, token)

	blocked(true)
	getsNoToken(t, p, *made.JSON201)
	eventuallyAnswers(t, p, token, http.StatusForbidden, "user_blocked")
	blocked(false)
	another, _ := tokenOf(t, p, *made.JSON201)
	accepts(t, p, another)
	eventuallyAnswers(t, p, token, http.StatusOK, "")

	revoked, err := a.DeleteApplicationWithResponse(t.Context(), pbxClient, made.JSON201.ID)
	must(t, http.StatusNoContent, revoked, err)
	getsNoToken(t, p, *made.JSON201)
	eventuallyAnswers(t, p, token, http.StatusUnauthorized, "")
	eventuallyAnswers(t, p, another, http.StatusUnauthorized, "")
}

// getsNoToken checks that the server refuses an application a token.
func getsNoToken(t *testing.T, p *process, made gen.ApplicationSecret) {
	t.Helper()
	token, refusal := tokenOf(t, p, made)
	if token != "" || !strings.Contains(refusal, "the answer is 400 ") ||
		!strings.Contains(refusal, `"message":"there is no application with this id and this secret"`) {
		t.Errorf("it gets the token %q, %s", token, refusal)
	}
}

// The command line creates, lists and revokes applications while the database is served.
func TestApplicationCommands(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	application := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := command(t, databaseAt(store), append([]string{"application"}, args...)...)
		audited := strings.Contains(stderr, "msg=command operation=") && strings.Count(stderr, "\n") == 1
		if changes := args[0] != "list"; code != 0 || audited != changes || !changes && stderr != "" {
			t.Fatalf("%q: exit code %d, %s", args, code, stderr)
		}
		return stdout
	}
	p := serve(t, store, "AGENTEVENTS_OPERATOR_ID=", "AGENTEVENTS_OPERATOR_SECRET=")
	pbx := printed(t, application("create", "--operator", "--name", "PBX"))
	token, refusal := tokenOf(t, p, pbx)
	equal(t, "refusal", refusal, "")
	accepts(t, p, token)
	putClientAs(t, p, token)

	crm := printed(t, application("create", "--client", pbxClient, "--name", "CRM", "--access", "call_api"))
	list := application("list")
	for _, line := range []string{pbx.ID + ` +operator +\S+Z +PBX`, crm.ID + ` +12 +call_api +\S+Z +CRM`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(list) {
			t.Errorf("%s is missing in\n%s", line, list)
		}
	}
	if strings.Contains(list, crm.Secret) || strings.Contains(list, pbx.Secret) {
		t.Errorf("the list has a secret:\n%s", list)
	}
	token, _ = tokenOf(t, p, crm)
	accepts(t, p, token)
	equal(t, "what is printed", application("revoke", crm.ID), "revoked "+crm.ID+"\n")
	getsNoToken(t, p, crm)
	eventuallyAnswers(t, p, token, http.StatusUnauthorized, "")
	if list := application("list"); strings.Contains(list, crm.ID) {
		t.Errorf("what is revoked is still listed:\n%s", list)
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "what the first start prints", strings.Count(p.Stdout.String(), "\n  secret "), 1)
}

// Commands that are refused say why, and change nothing.
func TestApplicationCommandsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"revoke", "x"}, {"create", "--operator", "--name", "x"}} {
		refusesWithoutStore(t, append([]string{"application"}, args...))
	}
	store := newStore(t)
	equal(t, "exit code", serve(t, store).stop(t), 0)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{
			[]string{"create", "--operator", "--access", "all", "--name", "x"},
			1,
			"--access is for a client's application",
		},
		{[]string{"create", "--operator", "--name", "x\x1b[2J"}, 1, "without control characters"},
		{[]string{"create", "--name", "x"}, 2, "--client"},
		{[]string{"create", "--client", "12", "--operator", "--name", "x"}, 2, "--operator"},
		{[]string{"create", "--client", "12"}, 2, "--name"},
		{[]string{"create", "--client", "12", "--name", "x", "--access", "operator"}, 2, "--access"},
		{[]string{"create", "--client", "12", "--name", ""}, 1, "--name must be 1 to 255 characters long"},
		{[]string{"create", "--client", "12", "--name", "x"}, 1, "there is no client 12"},
		{[]string{"revoke"}, 2, "<id>"},
		{[]string{"revoke", "nobody"}, 1, "there is no application nobody"},
		{[]string{"show"}, 2, "show"},
	} {
		stdout, stderr, code := command(t, databaseAt(store), append([]string{"application"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, want %d and %q; %s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
	}
}

// refusesWithoutStore checks that a command needs an existing database, and creates none.
func refusesWithoutStore(t *testing.T, args []string) {
	t.Helper()
	file := newFile(t)
	store, want := "sqlite:"+file, "there is no database yet"
	if pgtest.OnPostgres() {
		store, want = pgtest.Empty(t), "it is no database of this program"
	}
	stdout, stderr, code := command(t, databaseAt(store), args...)
	if _, err := os.Stat(file); code != 1 || stdout != "" || !strings.Contains(stderr, want) || err == nil {
		t.Errorf("%q without a database: exit code %d; %s%s", args, code, stdout, stderr)
	}
}

var idAndSecret = regexp.MustCompile(`(?m)^ *id     ([0-9a-f]{32})\n *secret ([0-9a-f]{32})\n`)

// printed returns the application that a text shows.
func printed(t *testing.T, text string) gen.ApplicationSecret {
	t.Helper()
	found := idAndSecret.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("there is no id and no secret in\n%s", text)
	}
	return gen.ApplicationSecret{ID: found[1], Secret: found[2]}
}

func putClientAs(t *testing.T, p *process, token string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.URL+"/api/ver1.0/client/"+pbxClient,
		strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	equal(t, "status of PUT", resp.StatusCode, http.StatusCreated)
}

// The first start on an empty database prints an operator on standard output; later starts do not.
func TestFirstStartPrintsAnOperator(t *testing.T) {
	t.Parallel()
	store, none := newStore(t), []string{"AGENTEVENTS_OPERATOR_ID=", "AGENTEVENTS_OPERATOR_SECRET="}
	p := serve(t, store, none...)
	eventually(t, "an operator is printed", func() bool { return idAndSecret.MatchString(p.Stdout.String()) })
	first := printed(t, p.Stdout.String())
	contains(t, "output", p.Stdout.String(), "first operator", "shown this once")
	token, refusal := tokenOf(t, p, first) // from here on the log is searched for the secret
	equal(t, "refusal", refusal, "")
	putClientAs(t, p, token)
	equal(t, "exit code", p.stop(t), 0)

	p = serve(t, store, none...)
	accepts(t, p, token)
	token, refusal = tokenOf(t, p, first)
	equal(t, "refusal", refusal, "")
	accepts(t, p, token)
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "what the second start prints", p.Stdout.String(), "")
}

// The configuration names the operator's secret at each start; tokens of another secret are valid no longer.
func TestConfigurationNamesTheOperator(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	pbx := gen.ApplicationSecret{ID: "pbx-1", Secret: "one-secret~of.16_characters"}
	p := serve(t, store, "AGENTEVENTS_OPERATOR_ID="+pbx.ID, "AGENTEVENTS_OPERATOR_SECRET="+pbx.Secret)
	token, refusal := tokenOf(t, p, pbx)
	equal(t, "refusal", refusal, "")
	putClientAs(t, p, token)
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "what a start with a configured operator prints", p.Stdout.String(), "")

	secretFile := filepath.Join(t.TempDir(), "secret")
	inFile := []string{
		"AGENTEVENTS_OPERATOR_ID=" + pbx.ID, "AGENTEVENTS_OPERATOR_SECRET=",
		"AGENTEVENTS_OPERATOR_SECRET_FILE=" + secretFile,
	}
	write := func(secret string) {
		if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pbx.Secret)
	p = serve(t, store, inFile...)
	accepts(t, p, token) // the same secret, from elsewhere
	equal(t, "exit code", p.stop(t), 0)

	old := pbx
	pbx.Secret = strings.Repeat("another-", 16)
	write(pbx.Secret)
	p = serve(t, store, inFile...)
	eventuallyAnswers(t, p, token, http.StatusUnauthorized, "")
	getsNoToken(t, p, old)
	token, refusal = tokenOf(t, p, pbx)
	equal(t, "refusal", refusal, "")
	accepts(t, p, token)
}
