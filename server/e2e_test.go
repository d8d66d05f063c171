package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/pgtest"
)

// engines are those that an end-to-end test runs on. What has nothing to do with the store, or with its file alone, runs on
// SQLite.
type engines int

const (
	onSQLite engines = iota
	onBoth
	onPostgresAlone
)

// TestEndToEnd tries the real binary from outside, as its users do: through the generated client on one side, and
// with receivers on loopback on the other.
func TestEndToEnd(t *testing.T) {
	bin := build(t)
	for _, test := range []struct {
		name string
		on   engines
		run  func(*testing.T, programs)
	}{
		{"hanging receiver", onBoth, testHangingReceiver}, // first, since it takes longest
		{"two replicas", onPostgresAlone, testTwoReplicas},
		{"replica without the key", onPostgresAlone, testReplicaWithoutTheKey},
		{"PostgreSQL away", onSQLite, testPostgresAway},
		{"story", onBoth, testStory},
		{"odd characters", onSQLite, testOddCharacters},
		{"query of the URL", onSQLite, testQueryOfTheURL},
		{"several registrations", onBoth, testSeveralRegistrations},
		{"retry schedule", onBoth, testRetrySchedule},
		{"send now", onBoth, testSendNow},
		{"deployment", onBoth, testDeployment},
		{"answer during shutdown", onBoth, testAnswerDuringShutdown},
		{"second signal", onBoth, testSecondSignal},
		{"refused start", onBoth, testRefusedStart},
		{"configuration", onSQLite, testConfiguration},
		{"unknown variable", onSQLite, testUnknownVariable},
		{"help and version", onSQLite, testHelpAndVersion},
		{"demo", onSQLite, testDemo},
		{"make run", onSQLite, testMakeRun},
		{"show.php", onSQLite, testShowPHP},
		{"signature", onSQLite, testSignature},
		{"audit", onBoth, testAudit},
		{"compatibility", onBoth, testCompatibility},
		{"clients of the README", onSQLite, testReadmeClients},
		{"revocation", onBoth, testRevocation},
		{"application commands", onBoth, testApplicationCommands},
		{"application commands refused", onBoth, testApplicationCommandsRefused},
		{"first operator", onBoth, testFirstOperator},
		{"decided operator", onBoth, testDecidedOperator},
		{"log", onBoth, testLog},
		{"log of what was corrected", onBoth, testLogOfCorrected},
		{"test of an event", onBoth, testSample},
		{"replay", onBoth, testReplay},
		{"replay killed", onBoth, testReplayKilled},
		{"backup", onSQLite, testBackup},
		{"no backup of PostgreSQL", onPostgresAlone, testNoBackup},
		{"copy", onPostgresAlone, testCopy},
		{"lines of the log", onBoth, testLines},
		{"Prometheus", onPostgresAlone, testPrometheus},
	} {
		if test.on == onBoth || pgtest.OnPostgres() == (test.on == onPostgresAlone) {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, bin)
			})
		}
	}
}

// testStory is the example of the API manual, and what make demo adds to it.
func testStory(t *testing.T, bin programs) {
	r := newReceiver(t)
	p := bin.serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "000*094@ringme.ru")
	show := r.url + "/fordel/show.php"
	a.register(gen.AgentTypeLocal, 136, show, gen.RequestMethodGET, gen.EventTypeAgentLogin)

	expect(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed true, deliveries 1")
	got := r.wait(t, 1)[0]
	equal(t, "request", got.request(), "GET /fordel/show.php?agent_status=available&agent_type=local&event_source=api&"+
		"agent_id=136&extension_name=000%2A094%40ringme.ru ")
	equal(t, "pairs", fmt.Sprint(got.pairs), "[agent_status => available agent_type => local event_source => api "+
		"agent_id => 136 extension_name => 000*094@ringme.ru]")
	envelope(t, got, 1, "agent-login", bin.version)

	expect(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed false, deliveries 0")

	a.register(gen.AgentTypeLocal, 136, show+"?left=alone", gen.RequestMethodPOST, gen.EventTypeAgentLogout)
	expect(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{
		AgentStatus: gen.AgentStatusValueLoggedOut, EventSource: gen.EventSourcePhone,
	}), "logged_out by phone, sequence 2, changed true, deliveries 1")
	got = r.wait(t, 2)[1] // the order of the lane: had the second login sent anything, that would be it
	equal(t, "request", got.request(), "POST /fordel/show.php?left=alone agent_status=logged_out&agent_type=local&"+
		"event_source=phone&agent_id=136&extension_name=000%2A094%40ringme.ru")
	equal(t, "content type", got.header.Get("Content-Type"), "application/x-www-form-urlencoded")
	envelope(t, got, 2, "agent-logout", bin.version)

	a.putAgent(gen.AgentTypeRemote, 7, "+7 (812) 336-42-42")
	a.register(gen.AgentTypeRemote, 7, show, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeRemote, 7, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	got = r.wait(t, 3)[2]
	equal(t, "pairs", fmt.Sprint(got.pairs), "[agent_status => available agent_type => remote event_source => api "+
		"agent_id => 7 agent_number => +7 (812) 336-42-42]")

	equal(t, "exit code", p.stop(t), 0) // it waits for what is in flight, so nothing can come any more
	equal(t, "requests in all", len(r.all()), 3)
}

// envelope looks at the headers of a first attempt.
func envelope(t *testing.T, got arrival, sequence int64, eventType, version string) {
	t.Helper()
	equal(t, "agentevents-sequence", got.sequence(), sequence)
	equal(t, "agentevents-attempt", got.header.Get("agentevents-attempt"), "1")
	equal(t, "agentevents-event-type", got.header.Get("agentevents-event-type"), eventType)
	equal(t, "User-Agent", got.header.Get("User-Agent"), "agentevents/"+version)
	for _, name := range []string{"webhook-id", "webhook-timestamp", "agentevents-changed-at"} {
		if got.header.Get(name) == "" {
			t.Errorf("the header %s is missing", name)
		}
	}
}

// Names come through unharmed, whatever is in them.
func testOddCharacters(t *testing.T, bin programs) {
	r := newReceiver(t)
	a := newAPI(t, bin.serve(t, newStore(t)))
	a.putClient()
	for i, name := range oddNames {
		id := int64(i + 1)
		for j, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
			kind := []gen.AgentType{gen.AgentTypeLocal, gen.AgentTypeRemote}[j]
			a.putAgent(kind, id, name)
			a.register(kind, id, r.url, method, gen.EventTypeAgentLogin)
			a.set(kind, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
			n := 2*i + j + 1
			got := r.wait(t, n)[n-1]
			equal(t, "name by "+got.method, got.pairs[len(got.pairs)-1].value, name)
			equal(t, "number of pairs", len(got.pairs), 5)
		}
	}
}

var oddNames = []string{
	"x", " ", "000*094@ringme.ru", "+7 (812) 336-42-42", "a+b%20c%2Bd%", "a&b=c;d#e?f/g\\h", `"it's" <b>$1</b> {}[]|^~` + "`",
	"Łukasz Ünïcødé", "Агент №1", "座席 ☎", "👩🏽‍💻", "name => value", strings.Repeat("ж", 255),
}

// GET appends to the query that the URL has, to the byte, and drops its fragment.
func testQueryOfTheURL(t *testing.T, bin programs) {
	r := newReceiver(t)
	a := newAPI(t, bin.serve(t, newStore(t)))
	a.putClient()
	const data = "agent_status=available&agent_type=local&event_source=api&agent_id=1&extension_name=x"
	for i, c := range []struct{ url, want string }{
		{"/hook?key=a%20b+c&agent_id=9#top", "GET /hook?key=a%20b+c&agent_id=9&" + data + " "},
		{"/hook?", "GET /hook?" + data + " "},
		{"/hook?flag&", "GET /hook?flag&" + data + " "},
		{"/a%2Fb/%C3%BC?z=%e4|[]%", "GET /a%2Fb/%C3%BC?z=%e4%7C%5B%5D%25&" + data + " "},
	} {
		id := int64(i + 1)
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.register(gen.AgentTypeLocal, id, r.url+c.url, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		want := strings.Replace(c.want, "agent_id=1&", fmt.Sprintf("agent_id=%d&", id), 1)
		equal(t, "request for "+c.url, r.wait(t, i+1)[i].request(), want)
	}
}

// All registrations of the agent and the type fire, and no others.
func testSeveralRegistrations(t *testing.T, bin programs) {
	r := newReceiver(t)
	a := newAPI(t, bin.serve(t, newStore(t)))
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "x")
	a.putAgent(gen.AgentTypeLocal, 137, "y")
	a.putAgent(gen.AgentTypeRemote, 136, "z")
	a.register(gen.AgentTypeLocal, 136, r.url+"/one", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.register(gen.AgentTypeLocal, 136, r.url+"/two", gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	a.register(gen.AgentTypeLocal, 136, r.url+"/out", gen.RequestMethodGET, gen.EventTypeAgentLogout)
	a.register(gen.AgentTypeLocal, 137, r.url+"/other", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.register(gen.AgentTypeRemote, 136, r.url+"/remote", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	gone := a.register(gen.AgentTypeLocal, 136, r.url+"/gone", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.unregister(136, gone)

	expect(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}),
		"available by api, sequence 1, changed true, deliveries 2")
	expect(t, a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueLoggedOut}),
		"logged_out by api, sequence 2, changed true, deliveries 1")
	got := r.wait(t, 3)
	paths := []string{got[0].path, got[1].path, got[2].path} // one lane, and so in order
	if !slices.Equal(paths, []string{"/one", "/two", "/out"}) {
		t.Errorf("the receiver got %v", paths)
	}
	equal(t, "sequence of the second", got[1].sequence(), got[0].sequence())
	if got[0].id() == got[1].id() {
		t.Errorf("two deliveries have the webhook-id %s", got[0].id())
	}
}

// testDemo is make demo.
func testDemo(t *testing.T, bin programs) {
	tmp := t.TempDir()
	cmd := exec.Command(bin.demo, "-binary", bin.server)
	cmd.Env = append(cleanEnv(), "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo: %v\n%s\n%s", err, stdout, stderr.Bytes())
	}
	rest := string(stdout)
	for _, want := range []string{
		`curl -X PUT "$API/client/12"`, "\n      {\n        \"url\": \"http://127.0.0.1:",
		"] ------\n", "] agent_status => available\n", "] agent_type => local\n", "] event_source => api\n",
		"] agent_id => 136\n", "] extension_name => 000*094@ringme.ru\n",
		"changed: false, deliveries: 0", "] agent_status => logged_out\n", "the second login has sent nothing",
		"] agent_number => +7 (812) 336-42-42\n", "exit code 0",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place, in\n%s", want, stdout)
		}
		rest = after
	}
	if bytes.Contains(stdout, []byte("\x1b")) {
		t.Error("there is colour in what is no terminal")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// testMakeRun is make run where the environment has settings for another server: it serves the store that it names.
func testMakeRun(t *testing.T, bin programs) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &process{out: &output{}, stdout: &output{}, exited: make(chan struct{})}
	p.cmd = exec.Command(bin.demo, "-binary", bin.server, "-serve")
	p.cmd.Dir = dir
	p.cmd.Env = append(cleanEnv(), "AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_DATABASE_URL=sqlite:other.db",
		"AGENTEVENTS_ALLOW_NETWORKS=10.0.0.0/8", "AGENTEVENTS_OPERATOR_ID=other", "AGENTEVENTS_OPERATOR_SECRET_FILE=missing",
		"AGENTEVENTS_ENCRYPTION_KEY_FILE=missing", "AGENTEVENTS_ENCRYPTION_KEY="+strings.Repeat("0f", 32))
	p.run(t)
	t.Cleanup(func() { // a kill would leave the server behind
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-p.exited
	})
	eventually(t, "it says how to try it out", func() bool { return p.ended() || strings.Contains(p.stdout.String(), "A new token") })
	contains(t, "output", p.stdout.String(), "export AGENTEVENTS_DATABASE_URL=sqlite:bin/agentevents.db\n")
	contains(t, "log", p.out.String(), `networks="[127.0.0.0/8 ::1/128]"`)
	checkLists(t, p.stdout.String(), "tenant", "read_only")
	checkLists(t, p.stdout.String(), "operator", "operator")
	equal(t, "exit code", p.stop(t), 0)
	list, _, _ := bin.run(t, []string{"AGENTEVENTS_DATABASE_URL=sqlite:" + filepath.Join(dir, "bin", "agentevents.db")}, "application", "list")
	contains(t, "applications", list, "make run")
	if _, err := os.Stat(filepath.Join(dir, "other.db")); err == nil {
		t.Error("it served the store that it was not to know of")
	}
}

// expect compares the answer to a status.
func expect(t *testing.T, s gen.AgentStatus, want string) {
	t.Helper()
	equal(t, "status", fmt.Sprintf("%s by %s, sequence %d, changed %t, deliveries %d",
		s.AgentStatus, s.EventSource, s.Sequence, s.Changed, s.Deliveries), want)
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// must ends the test when the server's answer is another than it should be.
func must(t testing.TB, want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode() != want {
		t.Fatalf("the answer is %d %s and not %d: %s", resp.StatusCode(), http.StatusText(resp.StatusCode()), want, resp.GetBody())
	}
}
