package e2e

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
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

// requestToken requests a token. It returns the token or the text of the refusal.
func requestToken(t *testing.T, p *process, created gen.ApplicationSecret) (token, refusal string) {
	t.Helper()
	token, err := lab.Token(http.DefaultClient, p.URL, created.ID, created.Secret)
	if err != nil {
		return "", err.Error()
	}
	return token, ""
}

// statusOf returns the server's answer to a token: the HTTP status, and the status of the error.
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

// awaitAnswer waits until the server answers a token with an HTTP status and a status of the error.
func awaitAnswer(t *testing.T, p *process, token string, code int, status string) {
	t.Helper()
	eventually(t, "a token gets "+http.StatusText(code)+" "+status, func() bool {
		gotCode, gotStatus := statusOf(t, p, token)
		return gotCode == code && gotStatus == status
	})
}

// checkAccepted checks that the server checkAccepted a token.
func checkAccepted(t *testing.T, p *process, token string) {
	t.Helper()
	if code, status := statusOf(t, p, token); code != http.StatusOK {
		t.Errorf("the token gets %d %s", code, status)
	}
}

// A revoked application, or one whose client is blocked, gets no token. The server soon refuses its existing tokens.
func TestRevokedAndBlockedApplicationsLoseAccess(t *testing.T) {
	t.Parallel()
	p := serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	blocked := func(is bool) {
		resp, err := a.PutClientWithResponse(t.Context(), pbxClient, gen.ClientUpdate{Blocked: &is})
		must(t, http.StatusOK, resp, err)
	}
	created, err := a.CreateApplicationWithResponse(t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(t, http.StatusCreated, created, err)
	token, _ := requestToken(t, p, *created.JSON201)
	checkAccepted(t, p, token)

	blocked(true)
	checkNoToken(t, p, *created.JSON201)
	awaitAnswer(t, p, token, http.StatusForbidden, "user_blocked")
	blocked(false)
	another, _ := requestToken(t, p, *created.JSON201)
	checkAccepted(t, p, another)
	awaitAnswer(t, p, token, http.StatusOK, "")

	revoked, err := a.DeleteApplicationWithResponse(t.Context(), pbxClient, created.JSON201.ID)
	must(t, http.StatusNoContent, revoked, err)
	checkNoToken(t, p, *created.JSON201)
	awaitAnswer(t, p, token, http.StatusUnauthorized, "")
	awaitAnswer(t, p, another, http.StatusUnauthorized, "")
}

// checkNoToken checks that the server refuses an application a token.
func checkNoToken(t *testing.T, p *process, created gen.ApplicationSecret) {
	t.Helper()
	token, refusal := requestToken(t, p, created)
	if token != "" || !strings.Contains(refusal, "the answer is 400 ") ||
		!strings.Contains(refusal, `"message":"there is no application with this id and this secret"`) {
		t.Errorf("the application gets the token %q, %s", token, refusal)
	}
}

// The commands create, list and revoke applications while a server uses the database.
func TestApplicationCommandsWorkAlongsideTheServer(t *testing.T) {
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
	pbx := printedApplication(t, application("create", "--operator", "--name", "PBX"))
	token, refusal := requestToken(t, p, pbx)
	equal(t, "refusal", refusal, "")
	checkAccepted(t, p, token)
	putClientAs(t, p, token)

	crm := printedApplication(t, application("create", "--client", pbxClient, "--name", "CRM", "--access", "call_api"))
	list := application("list")
	for _, line := range []string{pbx.ID + ` +operator +\S+Z +PBX`, crm.ID + ` +12 +call_api +\S+Z +CRM`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(list) {
			t.Errorf("%s is missing in\n%s", line, list)
		}
	}
	if strings.Contains(list, crm.Secret) || strings.Contains(list, pbx.Secret) {
		t.Errorf("the list has a secret:\n%s", list)
	}
	token, _ = requestToken(t, p, crm)
	checkAccepted(t, p, token)
	equal(t, "output of revoke", application("revoke", crm.ID), "revoked "+crm.ID+"\n")
	checkNoToken(t, p, crm)
	awaitAnswer(t, p, token, http.StatusUnauthorized, "")
	if list := application("list"); strings.Contains(list, crm.ID) {
		t.Errorf("the list has the revoked application:\n%s", list)
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "secrets in the output of the first start", strings.Count(p.Stdout.String(), "\n  secret "), 1)
}

// A refused command names the reason, and changes nothing.
func TestInvalidApplicationCommandsNameTheReason(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"revoke", "x"}, {"create", "--operator", "--name", "x"}} {
		checkRequiresStore(t, append([]string{"application"}, args...))
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
			"--access is valid only with --client",
		},
		{[]string{"create", "--operator", "--name", "x\x1b[2J"}, 1, "without control characters"},
		{[]string{"create", "--name", "x"}, 2, "--client"},
		{[]string{"create", "--client", "12", "--operator", "--name", "x"}, 2, "--operator"},
		{[]string{"create", "--client", "12"}, 2, "--name"},
		{
			[]string{"create", "--client", "12", "--name", "x", "--access", "operator"},
			2,
			"--access must be one of: all, call_api, read_only",
		},
		{[]string{"create", "--client", "12", "--name", "x", "--access", ""}, 2, "--access must be one of: all, "},
		{[]string{"create", "--client", "12", "--name", ""}, 1, "--name must be 1 to 255 characters long"},
		{[]string{"create", "--client", "12", "--name", "x"}, 1, "there is no client 12"},
		{[]string{"revoke"}, 2, "<id>"},
		{[]string{"revoke", "unknown"}, 1, "there is no application unknown"},
		{[]string{"show"}, 2, "show"},
	} {
		stdout, stderr, code := command(t, databaseAt(store), append([]string{"application"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, want %d and %q; %s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
	}
}

// checkRequiresStore checks that a command needs an existing database, and creates none.
func checkRequiresStore(t *testing.T, args []string) {
	t.Helper()
	file := newFile(t)
	store, want := "sqlite:"+file, "there is no database yet"
	if pgtest.OnPostgres() {
		store, want = pgtest.Empty(t), "it is no database of agentevents"
	}
	stdout, stderr, code := command(t, databaseAt(store), args...)
	if _, err := os.Stat(file); code != 1 || stdout != "" || !strings.Contains(stderr, want) || err == nil {
		t.Errorf("%q without a database: exit code %d; %s%s", args, code, stdout, stderr)
	}
}

var idAndSecret = regexp.MustCompile(`(?m)^ *id     ([0-9a-f]{32})\n *secret ([0-9a-f]{32})\n`)

// printedApplication returns the application in an output.
func printedApplication(t *testing.T, text string) gen.ApplicationSecret {
	t.Helper()
	found := idAndSecret.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("the output has no id and secret:\n%s", text)
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
	eventually(t, "the start prints an operator", func() bool { return idAndSecret.MatchString(p.Stdout.String()) })
	first := printedApplication(t, p.Stdout.String())
	contains(t, "output", p.Stdout.String(), "Created an operator", "the only time its secret is shown")
	token, refusal := requestToken(t, p, first) // from here on, the secret must not be in the log
	equal(t, "refusal", refusal, "")
	putClientAs(t, p, token)
	equal(t, "exit code", p.stop(t), 0)

	p = serve(t, store, none...)
	checkAccepted(t, p, token)
	token, refusal = requestToken(t, p, first)
	equal(t, "refusal", refusal, "")
	checkAccepted(t, p, token)
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "output of the second start", p.Stdout.String(), "")
}

// The configuration sets the operator's secret at each start. A new secret ends the tokens of the old one.
func TestConfigurationSetsTheOperatorsSecret(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	pbx := gen.ApplicationSecret{ID: "pbx-1", Secret: "one-secret~of.16_characters"}
	p := serve(t, store, "AGENTEVENTS_OPERATOR_ID="+pbx.ID, "AGENTEVENTS_OPERATOR_SECRET="+pbx.Secret)
	token, refusal := requestToken(t, p, pbx)
	equal(t, "refusal", refusal, "")
	putClientAs(t, p, token)
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "output of a start with a configured operator", p.Stdout.String(), "")

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
	checkAccepted(t, p, token) // the same secret, from a file
	equal(t, "exit code", p.stop(t), 0)

	old := pbx
	pbx.Secret = fmt.Sprintf("%x", sha512.Sum512([]byte("another"))) // the longest, 128 characters
	write(pbx.Secret)
	p = serve(t, store, inFile...)
	awaitAnswer(t, p, token, http.StatusUnauthorized, "")
	checkNoToken(t, p, old)
	token, refusal = requestToken(t, p, pbx)
	equal(t, "refusal", refusal, "")
	checkAccepted(t, p, token)
}
