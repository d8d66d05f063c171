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
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// program is the whole program in this process, but for its signals.
type program struct {
	testing.TB
	url    string
	store  string // its URL
	stop   context.CancelFunc
	log    *transcript
	exited chan int
	api    http.Client // of the operator
}

// start starts it on a free port, with a store of its own, and waits until it says where.
func start(t testing.TB, env ...string) *program {
	t.Helper()
	return startOn(t, pgtest.URL(t), env...)
}

// startOn is start with a store that may have been another's before.
func startOn(t testing.TB, databaseURL string, env ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	p := &program{TB: t, store: databaseURL, stop: stop, log: &transcript{}, exited: make(chan int, 1)}
	lines, stderr := io.Pipe()
	env = append(env, "AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8",
		"AGENTEVENTS_DATABASE_URL="+databaseURL, "AGENTEVENTS_OPERATOR_ID="+lab.OperatorID,
		"AGENTEVENTS_OPERATOR_SECRET="+lab.OperatorSecret)
	go func() {
		p.exited <- run(ctx, []string{"serve"}, env, io.Discard, stderr)
		_ = stderr.Close()
	}()
	p.url = p.read(lines)
	p.api.Transport = &lab.Operator{URL: p.url}
	t.Cleanup(func() { keepsSecrets(t, p.log.String()) })
	return p
}

// read keeps all that is logged, and returns the address in it.
func (p *program) read(log io.Reader) string {
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
		p.Fatalf("it did not start: exit code %d, %s", <-p.exited, p.log)
	}
	return found
}

// put makes a request that must succeed.
func (p *program) put(path, body string) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodPut, p.url+basePath+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	p.send(r)
}

func (p *program) post(path, body string) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodPost, p.url+basePath+path, strings.NewReader(body))
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

// upload begins a request with a body of two bytes and returns when a handler reads it.
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
	fmt.Fprintf(conn, "PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"+
		"Expect: 100-continue\r\n\r\n", basePath, token)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		p.Fatalf("%q, %v", line, err)
	}
	return conn
}

// ends waits for the end and compares how.
func (p *program) ends(within time.Duration) {
	p.Helper()
	select {
	case code := <-p.exited:
		if code != 0 {
			p.Errorf("exit code %d\n%s", code, p.log)
		}
	case <-time.After(within):
		p.Fatalf("it does not end within %v\n%s", within, p.log)
	}
}

func TestStart(t *testing.T) {
	p := start(t, "AGENTEVENTS_NONSENSE=1")
	p.stop()
	p.ends(time.Minute)
	for _, want := range []string{
		`level=WARN msg="unknown variable" name=AGENTEVENTS_NONSENSE`, "version=" + build().version, "store=" + store.Redacted(p.store),
		"api=" + p.url + basePath, `level=WARN msg="receivers may live in networks that are not public" networks=[127.0.0.0/8]`,
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("it does not say %s:\n%s", want, p.log)
		}
	}
}

func TestRefusedStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := "AGENTEVENTS_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "test.db")
	for want, env := range map[string][]string{
		"the configuration is wrong":  {"AGENTEVENTS_ADDR=x", file},
		taken.Addr().String():         {"AGENTEVENTS_ADDR=" + taken.Addr().String(), file},
		"/nonexistent/agentevents.db": {"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_DATABASE_URL=sqlite:/nonexistent/agentevents.db"},
	} {
		code, out, stderr := call(t, env, "serve")
		if code != exitFailed || out != "" || !strings.HasPrefix(stderr, "agentevents: ") || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, output %q, standard error %q", env, code, out, stderr)
		}
	}
}

// What runs is finished, what is new is refused, and nothing is left behind.
func TestGracefulStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")) // which nothing can end
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
		t.Errorf("the request that ran was answered %q, %v", answer, err)
	}
	p.ends(time.Minute)
	http.DefaultClient.CloseIdleConnections()
}

// A listener that fails ends the program, and what waits for changes is answered before.
func TestListenerFails(t *testing.T) {
	for name, fail := range map[string]func(on listeners) error{
		"of requests": func(on listeners) error { return on.api.Close() },
		"of metrics":  func(on listeners) error { return on.metrics.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			env := variables([]string{"AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t), "AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"})
			var line commands
			_, err := parse(&line, []string{"serve"}, env, io.Discard, io.Discard)
			must(t, err)
			c, err := line.validate()
			must(t, err)
			log := newLog(io.Discard, c)
			on, err := listen(t.Context(), c)
			must(t, err)
			st, err := store.Open(t.Context(), store.Options{URL: c.databaseURL, Log: log})
			must(t, err)
			defer st.Close()
			_, _, err = st.PutClient(t.Context(), "12", gen.ClientUpdate{})
			must(t, err)
			must(t, st.EnsureOperator(t.Context(), lab.OperatorID, lab.OperatorSecret))
			ended := make(chan error, 1)
			go func() { ended <- work(t.Context(), c, st, on, nil, log) }()
			before, answered := waiting(), make(chan string, 1)
			go func() {
				answered <- answerOf("http://"+on.api.Addr().String(), basePath+"/client/12/status_change/?wait=30")
			}()
			for waiting() == before {
				runtime.Gosched()
			}
			must(t, fail(on))
			if got := <-answered; got != "200 []" {
				t.Errorf("who waited was answered %s", got)
			}
			if err := <-ended; err == nil {
				t.Error("it ended without an error")
			}
		})
	}
}

// answerOf is the answer to a request of the operator in short.
func answerOf(server, path string) string {
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

// Neither a receiver that hangs nor a client that does holds up the end for long.
func TestStopInTime(t *testing.T) {
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
	p.ends(40 * time.Second)
	t.Logf("it took %v", time.Since(began).Round(time.Millisecond))
}
