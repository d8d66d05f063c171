package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// The receivers in webhook/README.md, as they are printed there, accept what the server sends before a rotation of the
// secret and after two of them, and nothing else. They recognize a test delivery.
func TestReceiversOfTheGuideVerifySignatures(t *testing.T) {
	pgtest.SQLiteOnly(t, "requests do not depend on the engine")
	t.Parallel()
	for _, language := range []string{"go", "php", "python", "typescript"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s := newSnippet(t, language)
			t.Run("without a secret", s.failsWithoutSecret)
			c := newSigningClient(t)
			secret := c.secret()
			p := s.start(t, secret)
			if p.ended() {
				t.Fatalf("the receiver ended:\n%s", p.out)
			}
			genuine := c.deliver(s.url)
			equal(t, "previous secret", c.rotate(), secret)
			genuine = append(genuine, c.deliver(s.url)...)
			c.rotate() // within a day, so that the first secret still signs
			genuine = append(genuine, c.deliver(s.url)...)
			for _, a := range genuine {
				s.try(t, a, variants(secret), http.StatusNoContent)
				s.try(t, a, forgeries(secret), http.StatusUnauthorized)
			}
			test := []variant{{"test delivery", inHeader("agentevents-test", always("true"))}}
			s.try(t, genuine[0], test, http.StatusNoContent)
			eventually(t, "it reports the test delivery", func() bool {
				return strings.Contains(p.out.String(), "test delivery "+genuine[0].ID)
			})
			equal(t, "test deliveries", strings.Count(p.out.String(), "test delivery"), 1)
		})
	}
}

// signingClient is client 12 of a server that logs every attempt, and a receiver that records the same requests.
type signingClient struct {
	api
	server *process
	notes  *receiver
	agents int64
}

func newSigningClient(t *testing.T) *signingClient {
	t.Helper()
	p := serve(t, newStore(t), "AGENTEVENTS_LOG_LEVEL=debug")
	c := &signingClient{api: newAPI(t, p), server: p, notes: newReceiver(t)}
	c.putClient()
	return c
}

func (c *signingClient) secret() string {
	c.t.Helper()
	resp, err := c.GetSecretWithResponse(c.t.Context(), pbxClient)
	must(c.t, http.StatusOK, resp, err)
	return resp.JSON200.Secret
}

// rotate returns the previous secret: from now on its signature is the second.
func (c *signingClient) rotate() string {
	c.t.Helper()
	resp, err := c.RotateSecretWithResponse(c.t.Context(), pbxClient, nil)
	must(c.t, http.StatusOK, resp, err)
	return resp.JSON200.Previous
}

// deliver has the server send to a receiver by GET and POST, which must confirm each request at once, and returns the
// same requests as another receiver got them.
func (c *signingClient) deliver(site string) []lab.Arrival {
	c.t.Helper()
	noted := len(c.notes.arrivals())
	for _, path := range []string{"/", "/a%2Fb?key=a%20b+c&agent_id=9&&z=%zz;%e4&%C3%BC=*~'()[]{}|"} {
		c.agents++
		c.putAgent(gen.AgentTypeLocal, c.agents, "000*094@ringme.ru Агент+№1")
		c.registerBoth(site + path)
		c.registerBoth(c.notes.URL + path)
		c.set(gen.AgentTypeLocal, c.agents, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		c.logout(c.agents)
	}
	attempts := int(c.agents) * 4
	eventually(c.t, "all is attempted", func() bool { return c.logged("msg=attempt") >= attempts })
	equal(c.t, "confirmed deliveries", c.logged("msg=attempt .* verdict=delivered"), attempts)
	return c.notes.arrivals()[noted:]
}

func (c *signingClient) registerBoth(url string) {
	c.t.Helper()
	c.createEvent(gen.AgentTypeLocal, c.agents, url, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	c.createEvent(gen.AgentTypeLocal, c.agents, url, gen.RequestMethodPOST, gen.EventTypeAgentLogout)
}

func (c *signingClient) logged(pattern string) int {
	return len(regexp.MustCompile(pattern).FindAllString(c.server.Log.String(), -1))
}

// variant is a change of a genuine request.
type variant struct {
	name   string
	change func(*lab.Arrival)
}

// variants are changes that leave a request genuine.
func variants(secret string) []variant {
	around := func(signatures string) string { return "v2,x v1,x " + signatures + " v1,x" }
	return []variant{
		{"as it was", func(*lab.Arrival) {}},
		{"signature among others", inHeader("webhook-signature", around)},
		{"4 minutes 30 ago", signed(secret, -270*time.Second)},
		{"4 minutes 30 ahead", signed(secret, 270*time.Second)},
	}
}

// forgeries are changes that a receiver must notice.
func forgeries(secret string) []variant {
	return []variant{
		{"5 minutes 30 ago", signed(secret, -330*time.Second)},
		{"5 minutes 30 ahead", signed(secret, 330*time.Second)},
		{"another secret", signed(webhook.NewSecret(), 0)},
		{"empty secret", signed("whsec_", 0)},

		{
			"another value",
			inContent(strings.NewReplacer("=available", "=logged_out", "=logged_out", "=available").Replace),
		},
		{"same value in another spelling", inContent(strings.NewReplacer("%40", "@", "+", "%20").Replace)},
		{"first byte missing", inContent(func(s string) string { return s[1:] })},
		{"last byte missing", inContent(func(s string) string { return s[:len(s)-1] })},
		{"something added", inContent(func(s string) string { return s + "&x=1" })},
		{"no content", inContent(func(string) string { return "" })},

		{"another id", inHeader("webhook-id", func(s string) string { return s + "x" })},
		{"odd id", inHeader("webhook-id", always("№"))},
		{"another timestamp", inHeader("webhook-timestamp", always(strconv.FormatInt(time.Now().Unix()+30, 10)))},
		{"endless timestamp", inHeader("webhook-timestamp", always(strings.Repeat("9", 999)))},
		{"odd timestamp", inHeader("webhook-timestamp", always("now"))},

		{"other scheme", inHeader("webhook-signature", strings.NewReplacer("v1,", "v2,").Replace)},
		{"no scheme", inHeader("webhook-signature", strings.NewReplacer("v1,", "").Replace)},
		{"shorter signature", inHeader("webhook-signature", strings.NewReplacer("=", "").Replace)},
		{"empty signature", inHeader("webhook-signature", always("v1,"))},
		{"odd signature", inHeader("webhook-signature", always("v1,№"))},

		{"id missing", without("webhook-id")},
		{"timestamp missing", without("webhook-timestamp")},
		{"signature missing", without("webhook-signature")},
	}
}

// signed signs a request again, by a secret.
func signed(secret string, fromNow time.Duration) func(*lab.Arrival) {
	return func(a *lab.Arrival) {
		at := time.Now().Add(fromNow)
		signature, _ := webhook.Sign(a.ID, at, *contentOf(a), secret) // without one it would be refused anyway
		a.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		a.Header.Set("webhook-signature", signature)
	}
}

func inContent(edit func(string) string) func(*lab.Arrival) {
	return func(a *lab.Arrival) {
		content := contentOf(a)
		*content = edit(*content)
	}
}

func inHeader(name string, edit func(string) string) func(*lab.Arrival) {
	return func(a *lab.Arrival) { a.Header.Set(name, edit(a.Header.Get(name))) }
}

func without(name string) func(*lab.Arrival) {
	return func(a *lab.Arrival) { a.Header.Del(name) }
}

func always(value string) func(string) string {
	return func(string) string { return value }
}

// contentOf returns the signed content.
func contentOf(a *lab.Arrival) *string {
	if a.Method == http.MethodGet {
		return &a.Query
	}
	return &a.Body
}

// snippet is a receiver of the guide.
type snippet struct {
	url     string
	command []string
}

// newSnippet has the receiver listen on a free port in place of 9000; PHP gets the port as an argument. The TypeScript
// is also JavaScript, as the guide says, and Node.js takes it for a module by its name.
func newSnippet(t *testing.T, language string) snippet {
	t.Helper()
	addr := freePort(t)
	_, port, _ := strings.Cut(addr, ":")
	program := fromGuide(t, "webhook/README.md", language)
	dir, name := t.TempDir(), strings.Replace("receiver."+language, "typescript", "mjs", 1)
	writeScript(t, dir, name, strings.Replace(program, "9000", port, 1))
	file := filepath.Join(dir, name)
	s := snippet{url: "http://" + addr}
	switch language {
	case "go":
		s.command = []string{buildSnippet(t, file)}
	case "php":
		s.command = []string{installed(t, "php", "php-cli"), "-n", "-S", addr, file}
	case "python":
		s.command = []string{installed(t, "python3", "python3"), file}
	case "typescript":
		s.command = []string{installed(t, "node", "nodejs"), file}
	}
	return s
}

// fromGuide returns the one program of a guide in a language.
func fromGuide(t *testing.T, path, language string) string {
	t.Helper()
	programs := readGuide(t, path).marked(language)
	if len(programs) != 1 {
		t.Fatalf("%s shows %d programs in %s, want 1", path, len(programs), language)
	}
	return programs[0].code
}

// buildSnippet builds a file as if it were in this module.
func buildSnippet(t *testing.T, file string) string {
	t.Helper()
	program := strings.TrimSuffix(file, ".go")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if underRace() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, file)...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// start runs the receiver until the end of the test. When it returns, the receiver listens or has ended.
func (s snippet) start(t *testing.T, secret string) *other {
	t.Helper()
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret)
	p := background(t, cmd)
	eventually(t, "the receiver listens", func() bool { return p.ended() || listens(s.url) })
	return p
}

// failsWithoutSecret checks that no request is accepted by an empty key, and that none is refused for good.
func (s snippet) failsWithoutSecret(t *testing.T) {
	p := s.start(t, "")
	if p.ended() {
		return
	}
	a := lab.Arrival{
		Key: lab.Key{Path: "/"}, Method: http.MethodGet, Query: "agent_id=136", ID: "msg_1",
		Header: http.Header{"Webhook-Id": {"msg_1"}},
	}
	signed("whsec_", 0)(&a)
	equal(t, "status without a secret", s.send(t, a), http.StatusInternalServerError)
}

// try sends changed requests.
func (s snippet) try(t *testing.T, genuine lab.Arrival, changes []variant, want int) {
	t.Helper()
	for _, v := range changes {
		a := genuine
		a.Header = genuine.Header.Clone()
		v.change(&a)
		equal(t, "status for "+v.name+": "+a.Request(), s.send(t, a), want)
	}
}

// send returns the status of the answer.
func (s snippet) send(t *testing.T, a lab.Arrival) int {
	t.Helper()
	req, err := http.NewRequest(a.Method, s.url+a.Path+"?"+a.Query, strings.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = a.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
