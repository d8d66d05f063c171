package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// The server accepts the requests of public clients of the original API. Each form of them is a client in this test.
// Where the bytes matter, the test writes them itself.
func TestClientsOfTheOriginalAPIWork(t *testing.T) {
	t.Parallel()
	s := newCompatServer(t)
	for _, forms := range []map[string]func(*originalClient){tokenForms, callForms, programForms} {
		for name, test := range forms {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(s.newClient(t))
			})
		}
	}
}

// compatServer is a server with clients of the original API.
type compatServer struct {
	server   *process
	store    string
	operator *http.Client
	clients  atomic.Int64
}

func newCompatServer(t *testing.T) *compatServer {
	t.Helper()
	s := &compatServer{store: newStore(t)}
	s.server = serve(t, s.store)
	s.operator = &http.Client{Transport: &lab.Operator{URL: s.server.URL}}
	return s
}

// originalClient is a client of the PBX whose application has full access. It has local agents 136 (extension 5), 137
// (6) and 138 (7), and remote agent 7.
type originalClient struct {
	testing.TB
	*compatServer
	id          string
	application gen.ApplicationSecret
}

func (s *compatServer) newClient(t testing.TB) *originalClient {
	t.Helper()
	c := &originalClient{t, s, strconv.FormatInt(100+s.clients.Add(1), 10), gen.ApplicationSecret{}}
	c.pbx("PUT", "", `{}`, http.StatusCreated)
	for i, agent := range []string{"136", "137", "138"} {
		c.pbx("PUT", "/agent/local/"+agent,
			fmt.Sprintf(`{"extension_name":"000*094@ringme.ru","extension_id":%d}`, i+5), http.StatusCreated)
	}
	c.pbx("PUT", "/agent/remote/7", `{"agent_number":"+7 (812) 336-42-42"}`, http.StatusCreated)
	c.application = c.createApplication(gen.AccessLevelAll)
	return c
}

// createApplication creates an application of the client.
func (c *originalClient) createApplication(access gen.AccessLevel) (created gen.ApplicationSecret) {
	c.Helper()
	body := c.pbx("POST", "/application/", `{"name":"CRM","access":"`+string(access)+`"}`, http.StatusCreated)
	c.must(json.Unmarshal([]byte(body), &created))
	lab.AddSecret(created.Secret)
	return created
}

// pbx sends an operator's request about the client. The answer must have a status.
func (c *originalClient) pbx(method, path, body string, status int) string {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.server.URL+"/api/ver1.0/client/"+c.id+path,
		strings.NewReader(body))
	c.must(err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.operator.Do(r)
	c.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		c.Fatalf("%s %s: %d %s (%v)", method, path, resp.StatusCode, text, err)
	}
	return string(text)
}

func (c *originalClient) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// token requests a token for an application.
func (c *originalClient) token(application gen.ApplicationSecret) string {
	c.Helper()
	token, err := lab.Token(http.DefaultClient, c.server.URL, application.ID, application.Secret)
	c.must(err)
	return token
}

// tokens returns the number of the application's tokens in the store.
func (c *originalClient) tokens() (n int) {
	c.Helper()
	row := open(c, c.store).QueryRowContext(c.Context(), // an id has only hexadecimal digits
		"SELECT count(*) FROM tokens WHERE application = "+
			"(SELECT number FROM applications WHERE id = '"+c.application.ID+"')")
	c.must(row.Scan(&n))
	return n
}

// wire is a connection on which a client writes the bytes of its requests.
type wire struct {
	*originalClient
	conn    net.Conn
	answers *bufio.Reader
}

func (c *originalClient) connect() *wire {
	c.Helper()
	conn, err := net.Dial("tcp", c.host())
	c.must(err)
	c.Cleanup(func() { _ = conn.Close() })
	c.must(conn.SetDeadline(time.Now().Add(patience)))
	return &wire{c, conn, bufio.NewReader(conn)}
}

func (c *originalClient) host() string { return strings.TrimPrefix(c.server.URL, "http://") }

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// send writes a request, with CRLF line ends. It replaces {length} by the length of the body, and {host}, {id},
// {secret} and {client} by those of the client.
func (w *wire) send(request string) answer {
	w.Helper()
	head, body, _ := strings.Cut(strings.NewReplacer(
		"{host}", w.host(), "{id}", w.application.ID, "{secret}", w.application.Secret, "{client}", w.id, "\n",
		"\r\n").Replace(request), "\r\n\r\n")
	head = strings.ReplaceAll(head, "{length}", strconv.Itoa(len(body)))
	_, err := io.WriteString(w.conn, head+"\r\n\r\n"+body)
	w.must(err)
	method, _, _ := strings.Cut(request, " ")
	for {
		resp, err := http.ReadResponse(w.answers, &http.Request{Method: method})
		w.must(err)
		text, err := io.ReadAll(resp.Body)
		w.must(err)
		if resp.StatusCode != http.StatusContinue {
			return answer{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}
		}
	}
}

// expect sends a request, and compares the answer.
func (w *wire) expect(request string, status int, body string) answer {
	w.Helper()
	s := w.send(request)
	if s.status != status || s.body != body {
		w.Errorf("%s\ngot  %d %s\nwant %d %s", request, s.status, s.body, status, body)
	}
	return s
}

// requestToken requests a token and returns it.
func (w *wire) requestToken(request string) string {
	w.Helper()
	s := w.send(request)
	var token gen.Token
	err := json.Unmarshal([]byte(s.body), &token)
	want := `{"access_token":"` + token.AccessToken + `","token_type":"Bearer","expires_in":3600,"scope":"all"}`
	if err != nil || s.status != http.StatusOK || len(token.AccessToken) != 30 || s.body != want ||
		s.header.Get("Content-Type") != "application/json" {
		w.Fatalf("%s\ngot %d %s, want a token", request, s.status, s.body)
	}
	return token.AccessToken
}
