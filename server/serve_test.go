package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// A stop answers waiting polls at once.
func TestStopAnswersPolls(t *testing.T) {
	p := start(t)
	p.put("/client/12", `{}`)
	answers := make(chan string)
	for range 20 {
		go func() {
			resp, err := p.api.Get(p.url + contract.BasePath + "/client/12/status_change/?wait=30")
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			answers <- fmt.Sprintf("%d %s%v", resp.StatusCode, body, err)
		}()
	}
	servertest.AwaitPolls(t, 20)
	p.stop()
	for range 20 {
		if got := <-answers; got != "200 []\n<nil>" {
			t.Errorf("a poll ended with %q", got)
		}
	}
	p.waitForExit(5 * time.Second)
}

// program is a server in the process of the test. Its context stops it, not a signal.
type program struct {
	testing.TB
	url    string
	store  string // its URL
	stop   context.CancelFunc
	log    *lab.Log
	exited chan int
	api    http.Client // of the operator
}

// start starts a server on a free port with a store of its own. It returns when the server listens.
func start(t testing.TB, env ...string) *program {
	t.Helper()
	return startOn(t, pgtest.URL(t), env...)
}

// startOn starts a server with a store that may exist.
func startOn(t testing.TB, databaseURL string, env ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	p := &program{TB: t, store: databaseURL, stop: stop, log: &lab.Log{}, exited: make(chan int, 1)}
	lines, stderr := io.Pipe()
	env = append(env, "AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_DATABASE_URL="+databaseURL, "AGENTEVENTS_OPERATOR_ID="+lab.OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET="+lab.OperatorSecret)
	go func() {
		p.exited <- run(ctx, []string{"serve"}, env, io.Discard, stderr)
		_ = stderr.Close()
	}()
	p.url = p.readLog(lines)
	p.api.Transport = &lab.Operator{URL: p.url}
	t.Cleanup(func() { checkNoSecrets(t, p.log.String()) })
	return p
}

// checkNoSecrets fails the test if the log contains a secret.
func checkNoSecrets(t testing.TB, log string) {
	t.Helper()
	if secret := lab.Secret(log); secret != "" {
		t.Errorf("the log has the secret %q:\n%s", secret, log)
	}
}

// readLog records the log, and returns the URL in it.
func (p *program) readLog(log io.Reader) string {
	p.Helper()
	url := make(chan string, 1)
	go func() {
		defer close(url)
		listening := regexp.MustCompile(`docs=(http://.*)/docs/`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			fmt.Fprintln(p.log, lines.Text())
			if found := listening.FindStringSubmatch(lines.Text()); found != nil {
				url <- found[1]
			}
		}
	}()
	found := <-url
	if found == "" {
		p.Fatalf("the server did not start: exit code %d, %s", <-p.exited, p.log)
	}
	return found
}

// put sends a request that must succeed.
func (p *program) put(path, body string) {
	p.Helper()
	r,
		err := http.NewRequestWithContext(p.Context(), http.MethodPut, p.url+contract.BasePath+path,
		strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	p.send(r)
}

func (p *program) post(path, body string) {
	p.Helper()
	r,
		err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.url+contract.BasePath+path,
		strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	p.send(r)
}

func (p *program) send(r *http.Request) {
	p.Helper()
	r.Header.Set("Content-Type", "application/json")
	resp, err := p.api.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.Body.Close(); resp.StatusCode/100 != 2 {
		p.Fatalf("%s %s: %d %s", r.Method, r.URL, resp.StatusCode, body)
	}
}

// upload sends the head of a request whose body has two bytes. It returns when the handler waits for the body.
func (p *program) upload() net.Conn {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = conn.Close() })
	token, err := lab.Token(http.DefaultClient, p.url, lab.OperatorID, lab.OperatorSecret)
	if err != nil {
		p.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "+
		"application/json\r\nContent-Length: 2\r\n"+
		"Expect: 100-continue\r\n\r\n", contract.BasePath, token)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		p.Fatalf("%q, %v", line, err)
	}
	return conn
}

// waitForExit waits until the program exits with code 0.
func (p *program) waitForExit(within time.Duration) {
	p.Helper()
	select {
	case code := <-p.exited:
		if code != 0 {
			p.Errorf("exit code %d\n%s", code, p.log)
		}
	case <-time.After(within):
		p.Fatalf("the server did not exit within %v\n%s", within, p.log)
	}
}

func TestStartLogsVersionStoreAndAddresses(t *testing.T) {
	p := start(t, "AGENTEVENTS_NONSENSE=1")
	p.stop()
	p.waitForExit(time.Minute)
	for _, want := range []string{
		`level=WARN msg="unknown variable" name=AGENTEVENTS_NONSENSE`, "version=" + build().version, "store=" +
			store.Redacted(p.store),
		"api=" + p.url + contract.BasePath,
		`level=WARN msg="non-public receivers allowed" networks=[127.0.0.0/8]`,
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, p.log)
		}
	}
}

func TestServeReportsWhyItCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := "AGENTEVENTS_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "test.db")
	for want, env := range map[string][]string{
		"invalid configuration": {"AGENTEVENTS_ADDR=x", file},
		taken.Addr().String():   {"AGENTEVENTS_ADDR=" + taken.Addr().String(), file},
		"/nonexistent/agentevents.db": {
			"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_DATABASE_URL=sqlite:/nonexistent/agentevents.db",
		},
	} {
		code, out, stderr := runCommand(t, env, "serve")
		if code != exitFailed || out != "" || !strings.HasPrefix(stderr, "agentevents: ") ||
			!strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, output %q, standard error %q", env, code, out, stderr)
		}
	}
}

// On a stop, the server finishes requests, refuses connections and leaves no goroutine.
func TestGracefulStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")) // GORM does not stop it
	p := start(t, "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0")
	p.scrape()
	conn := p.upload()
	p.stop()
	refused := false
	for !refused {
		other, err := net.Dial("tcp", conn.RemoteAddr().String())
		if refused = err != nil; !refused {
			_ = other.Close()
		}
	}
	fmt.Fprint(conn, "{}")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "201 Created") {
		t.Errorf("the pending request was answered %q, %v", answer, err)
	}
	p.waitForExit(time.Minute)
	http.DefaultClient.CloseIdleConnections()
}

// If a listener fails, the server answers waiting polls and ends with an error.
func TestFailedListenerEndsTheServer(t *testing.T) {
	for name, fail := range map[string]func(on listeners) error{
		"API":     func(on listeners) error { return on.api.Close() },
		"metrics": func(on listeners) error { return on.metrics.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			env := variables([]string{
				"AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t), "AGENTEVENTS_ADDR=127.0.0.1:0",
				"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0",
			})
			var line commands
			_, err := parse(&line, []string{"serve"}, env, io.Discard, io.Discard)
			must(t, err)
			c, err := line.Serve.validate()
			must(t, err)
			log := telemetry.NewLog(io.Discard, c.logLevel, c.logJSON)
			on, err := listen(t.Context(), c)
			must(t, err)
			st, err := store.Open(t.Context(), store.Options{URL: c.databaseURL, Log: log})
			must(t, err)
			defer st.Close()
			_, _, err = st.PutClient(t.Context(), "12", gen.ClientUpdate{})
			must(t, err)
			must(t, st.EnsureOperator(t.Context(), lab.OperatorID, lab.OperatorSecret))
			ended := make(chan error, 1)
			go func() { ended <- serveAndDeliver(t.Context(), c, st, on, nil, log) }()
			before, answered := servertest.WaitingPolls(), make(chan string, 1)
			go func() {
				answered <- getAsOperator("http://"+on.api.Addr().String(), contract.BasePath+
					"/client/12/status_change/?wait=30")
			}()
			for servertest.WaitingPolls() == before {
				runtime.Gosched()
			}
			must(t, fail(on))
			if got := <-answered; got != "200 []" {
				t.Errorf("the poll was answered %s", got)
			}
			if err := <-ended; err == nil {
				t.Error("serveAndDeliver returned no error")
			}
		})
	}
}

// getAsOperator sends a GET with the operator's token, and returns status and body.
func getAsOperator(server, path string) string {
	operator := http.Client{Transport: &lab.Operator{URL: server}}
	resp, err := operator.Get(server + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A receiver or a client that hangs does not block the stop.
func TestStopEndsDespiteHangingPeers(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	}))
	defer receiver.Close()
	defer close(release)
	p := start(t, "AGENTEVENTS_TIMEOUT=1m")
	p.put("/client/12", `{}`)
	p.put("/client/12/agent/local/136", `{"extension_name":"x"}`)
	p.post("/client/12/agent/local/136/event/", `{"url":"`+receiver.URL+`","method":"GET","event_type":"agent-login"}`)
	p.put("/client/12/agent/local/136/status", `{"agent_status":"available"}`)
	<-reached
	p.upload()
	began := time.Now()
	p.stop()
	p.waitForExit(time.Minute)
	t.Logf("the stop took %v", time.Since(began).Round(time.Millisecond))
}
