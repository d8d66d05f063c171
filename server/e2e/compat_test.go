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

// TestClientsOfTheOriginalAPI makes the requests that public clients of the original API make, each habit of theirs as
// a client that has it. Where the form matters they are written to the byte.
func TestClientsOfTheOriginalAPI(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, habits := range []map[string]func(*customer){tokenHabits, callHabits, programHabits} {
		for name, habit := range habits {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				habit(s.customer(t))
			})
		}
	}
}

// shop is a server whose clients are customers.
type shop struct {
	server   *process
	store    string
	operator *http.Client
	sold     atomic.Int64
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{store: newStore(t)}
	s.server = serve(t, s.store)
	s.operator = &http.Client{Transport: &lab.Operator{URL: s.server.URL}}
	return s
}

// customer is a client of the PBX with an application that may do all, local agents 136 (extension 5), 137 (6) and
// 138 (7), and remote agent 7.
type customer struct {
	testing.TB
	*shop
	id   string
	made gen.ApplicationSecret
}

func (s *shop) customer(t testing.TB) *customer {
	t.Helper()
	c := &customer{t, s, strconv.FormatInt(100+s.sold.Add(1), 10), gen.ApplicationSecret{}}
	c.pbx("PUT", "", `{}`, http.StatusCreated)
	for i, agent := range []string{"136", "137", "138"} {
		c.pbx("PUT", "/agent/local/"+agent,
			fmt.Sprintf(`{"extension_name":"000*094@ringme.ru","extension_id":%d}`, i+5), http.StatusCreated)
	}
	c.pbx("PUT", "/agent/remote/7", `{"agent_number":"+7 (812) 336-42-42"}`, http.StatusCreated)
	c.made = c.application(gen.AccessLevelAll)
	return c
}

// application makes one of the customer's.
func (c *customer) application(access gen.AccessLevel) (made gen.ApplicationSecret) {
	c.Helper()
	body := c.pbx("POST", "/application/", `{"name":"CRM","access":"`+string(access)+`"}`, http.StatusCreated)
	c.must(json.Unmarshal([]byte(body), &made))
	lab.Tell(made.Secret)
	return made
}

// pbx is the operator's request about the customer, and must be answered as it says.
func (c *customer) pbx(method, path, body string, status int) string {
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

func (c *customer) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// token gets one for an application.
func (c *customer) token(made gen.ApplicationSecret) string {
	c.Helper()
	token, err := lab.Token(http.DefaultClient, c.server.URL, made.ID, made.Secret)
	c.must(err)
	return token
}

// tokens is how many the customer's first application has in the store.
func (c *customer) tokens() (n int) {
	c.Helper()
	row := open(c, c.store).QueryRowContext(c.Context(), // an id is no more than hexadecimal digits
		"SELECT count(*) FROM tokens WHERE application = (SELECT number FROM applications WHERE id = '"+c.made.ID+"')")
	c.must(row.Scan(&n))
	return n
}

// wire is a connection on which a customer writes requests to the byte.
type wire struct {
	*customer
	conn    net.Conn
	answers *bufio.Reader
}

func (c *customer) connect() *wire {
	c.Helper()
	conn, err := net.Dial("tcp", c.host())
	c.must(err)
	c.Cleanup(func() { _ = conn.Close() })
	c.must(conn.SetDeadline(time.Now().Add(patience)))
	return &wire{c, conn, bufio.NewReader(conn)}
}

func (c *customer) host() string { return strings.TrimPrefix(c.server.URL, "http://") }

// said is an answer.
type said struct {
	status int
	header http.Header
	body   string
}

// ask writes a request, with CRLF at the ends of its lines, and the length of its body in place of {length}. {host},
// {id}, {secret} and {client} are the customer's.
func (w *wire) ask(request string) said {
	w.Helper()
	head, body, _ := strings.Cut(strings.NewReplacer(
		"{host}", w.host(), "{id}", w.made.ID, "{secret}", w.made.Secret, "{client}", w.id, "\n",
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
			return said{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}
		}
	}
}

// hears asks, and compares the answer.
func (w *wire) hears(request string, status int, body string) said {
	w.Helper()
	s := w.ask(request)
	if s.status != status || s.body != body {
		w.Errorf("%s\nis answered %d %s\nand not     %d %s", request, s.status, s.body, status, body)
	}
	return s
}

// granted asks for a token and returns it.
func (w *wire) granted(request string) string {
	w.Helper()
	s := w.ask(request)
	var token gen.Token
	err := json.Unmarshal([]byte(s.body), &token)
	want := `{"access_token":"` + token.AccessToken + `","token_type":"Bearer","expires_in":3600,"scope":"all"}`
	if err != nil || s.status != http.StatusOK || len(token.AccessToken) != 30 || s.body != want ||
		s.header.Get("Content-Type") != "application/json" {
		w.Fatalf("%s\nis answered %d %s, and that is no token", request, s.status, s.body)
	}
	return token.AccessToken
}
