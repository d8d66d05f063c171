package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
)

// vector is one entry of testdata/requests.txt.
type vector struct {
	title    string
	delivery Delivery
	sent     string // with \n for \r\n
}

// vectors reads the entries: a line "== title", the delivery as JSON, a line "--", the request as sent.
func vectors(t testing.TB) []vector {
	t.Helper()
	file, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, entry := range strings.Split("\n"+string(file), "\n== ")[1:] {
		title, rest, _ := strings.Cut(entry, "\n")
		delivery, sent, _ := strings.Cut(rest, "\n--\n")
		v := vector{title: title, sent: strings.TrimSpace(sent)}
		if err := json.Unmarshal([]byte(delivery), &v.delivery); err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		all = append(all, v)
	}
	return all
}

// onTheWire returns the request as it is written to a receiver.
func onTheWire(t testing.TB, req *http.Request) string {
	t.Helper()
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.ReplaceAll(b.String(), "\r\n", "\n"))
}

// In the bubble an attempt takes place at 2000-01-01T00:00:00Z, which is 946684800.
func TestNewRequestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				req, err := NewRequest(t.Context(), v.delivery, "agentevents/1.2.3", time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(v.sent, onTheWire(t, req)); diff != "" {
					t.Errorf("-testdata/requests.txt +sent:\n%s", diff)
				}
			})
		})
	}
}

// PHP reads the same pairs as the vectors have, in the same order.
func TestPHPReadsTheVectors(t *testing.T) {
	php := lookPath(t, "php")
	for _, v := range vectors(t) {
		t.Run(v.title, func(t *testing.T) {
			const script = `parse_str(stream_get_contents(STDIN), $in); foreach ($in as $k => $v) echo "$k => $v\n";`
			cmd := exec.CommandContext(t.Context(), php, "-n", "-r", script)
			cmd.Stdin = strings.NewReader(formOf(v.sent))
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(out), logOf(v.delivery.Data); !strings.HasSuffix(got, want) {
				t.Errorf("PHP reads\n%s\nwant it to end with\n%s", got, want)
			}
		})
	}
}

// lookPath skips the test if the program is not installed; in CI the test fails.
func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, but the tests run in CI, where it must be", program)
	}
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

// formOf returns the part of a request that a receiver parses as a form.
func formOf(sent string) string {
	head, body, _ := strings.Cut(sent, "\n\n")
	if strings.HasPrefix(head, "POST ") {
		return body
	}
	target := strings.Fields(head)[1]
	_, query, _ := strings.Cut(target, "?")
	return query
}

// logOf returns the lines that the script of the API manual's example prints.
func logOf(d gen.AgentEventData) string {
	name := "extension_name => " + d.ExtensionName
	if d.AgentType == gen.AgentTypeRemote {
		name = "agent_number => " + d.AgentNumber
	}
	return "agent_status => " + string(d.AgentStatus) + "\nagent_type => " + string(d.AgentType) +
		"\nevent_source => " + string(d.EventSource) + "\nagent_id => " + d.AgentID + "\n" + name + "\n"
}

func seedDelivery() Delivery {
	return Delivery{
		WebhookID: "msg_1",
		URL:       "https://somehost.com/fordel/show.php",
		Method:    gen.RequestMethodGET,
		EventType: gen.EventTypeAgentLogin,
		Sequence:  1,
		Attempt:   1,
		ChangedAt: time.Date(2017, 5, 30, 15, 7, 50, 0, time.UTC),
		Data: gen.AgentEventData{
			AgentStatus:   gen.AgentStatusValueAvailable,
			AgentType:     gen.AgentTypeLocal,
			EventSource:   gen.EventSourceAPI,
			AgentID:       "136",
			ExtensionName: "000*094@ringme.ru",
		},
	}
}

const seedForm = "agent_status=available&agent_type=local&event_source=api&agent_id=136" +
	"&extension_name=000%2A094%40ringme.ru"

func TestNewRequestTarget(t *testing.T) {
	cases := []struct {
		url  string
		get  string // what GET asks for, before the data
		post string
	}{
		{"http://h", "/?", "/"},
		{"http://h/", "/?", "/"},
		{"http://h?", "/?", "/?"},
		{"http://h/p?", "/p?", "/p?"},
		{"http://h/p?a=1", "/p?a=1&", "/p?a=1"},
		{"http://h/p?a=1&", "/p?a=1&", "/p?a=1&"},
		{"http://h/p?&", "/p?&", "/p?&"},
		{"http://h/p?a", "/p?a&", "/p?a"},
		{"http://h/p?a=1#f?g=2&", "/p?a=1&", "/p?a=1"},
		{"http://h/p#f", "/p?", "/p"},
		{"http://h/p?#f", "/p?", "/p?"},
		{"http://h/p?b=2&a=1&b=1", "/p?b=2&a=1&b=1&", "/p?b=2&a=1&b=1"},
		{
			"http://h/p?a=%2f%2F+%20&x=*@'(!)~$,;:/?-._", "/p?a=%2f%2F+%20&x=*@'(!)~$,;:/?-._&",
			"/p?a=%2f%2F+%20&x=*@'(!)~$,;:/?-._",
		},
		{"http://h/p?a=1|2", "/p?a=1%7C2&", "/p?a=1%7C2"},
		{"http://h/p?{a}=^`\\", "/p?%7Ba%7D=%5E%60%5C&", "/p?%7Ba%7D=%5E%60%5C"},
		{"http://h/p?\"<>\"", "/p?%22%3C%3E%22&", "/p?%22%3C%3E%22"},
		{"http://h/p?a[]=1&a[]=2", "/p?a%5B%5D=1&a%5B%5D=2&", "/p?a%5B%5D=1&a%5B%5D=2"},
		{"http://h/p?100%", "/p?100%25&", "/p?100%25"},
		{"http://h/p?%zz%4", "/p?%25zz%254&", "/p?%25zz%254"},
		{"http://h/p?%%20%", "/p?%25%20%25&", "/p?%25%20%25"},
		{"http://h/p?имя=Ж?a", "/p?%D0%B8%D0%BC%D1%8F=%D0%96?a&", "/p?%D0%B8%D0%BC%D1%8F=%D0%96?a"},
		{"http://h/p?\xff", "/p?%FF&", "/p?%FF"},
		{"http://h/p?agent_id=5", "/p?agent_id=5&", "/p?agent_id=5"},
		{"http://h//a/../b%2Fc;d", "//a/../b%2Fc;d?", "//a/../b%2Fc;d"},
		{
			"http://h/a|b{c}^`\\[\"<>\"]", "/a%7Cb%7Bc%7D%5E%60%5C%5B%22%3C%3E%22%5D?",
			"/a%7Cb%7Bc%7D%5E%60%5C%5B%22%3C%3E%22%5D",
		},
		{"http://h/a%2Fb|c", "/a%2Fb%7Cc?", "/a%2Fb%7Cc"},
		{"http://h/a%2Fb/имя", "/a%2Fb/%D0%B8%D0%BC%D1%8F?", "/a%2Fb/%D0%B8%D0%BC%D1%8F"},
		{"http://h/a%41%7e!$&'()*+,;=:@~b", "/a%41%7e!$&'()*+,;=:@~b?", "/a%41%7e!$&'()*+,;=:@~b"},
		{"http://h/100%/a%zz?b", "/100%25/a%25zz?b&", "/100%25/a%25zz?b"},
		{"http://h/p#%zz|", "/p?", "/p"},
		{"http://h/имя", "/%D0%B8%D0%BC%D1%8F?", "/%D0%B8%D0%BC%D1%8F"},
	}
	for _, c := range cases {
		for method, want := range map[gen.RequestMethod]string{
			gen.RequestMethodGET: c.get + seedForm, gen.RequestMethodPOST: c.post,
		} {
			d := seedDelivery()
			d.URL, d.Method = c.url, method
			req, err := NewRequest(t.Context(), d, "agentevents/1", time.Now())
			if err != nil {
				t.Errorf("%s %s: %v", method, c.url, err)
				continue
			}
			line, _, _ := strings.Cut(onTheWire(t, req), "\n")
			if want := string(method) + " " + want + " HTTP/1.1"; line != want {
				t.Errorf("%s %s\nsends %s\nwant  %s", method, c.url, line, want)
			}
		}
	}
}

func TestNewRequestUserInfo(t *testing.T) {
	cases := []struct{ url, user, password string }{
		{"https://us%40er:p%3Aw%20%2F@h/", "us@er", "p:w /"},
		{"https://user@h/", "user", ""},
		{"https://user:@h/", "user", ""},
		{"https://:pw@h/", "", "pw"},
	}
	for _, c := range cases {
		d := seedDelivery()
		d.URL = c.url
		req, err := NewRequest(t.Context(), d, "agentevents/1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		user, password, ok := req.BasicAuth()
		if !ok || user != c.user || password != c.password || req.URL.User != nil || req.Host != "h" {
			t.Errorf("%s: user %q, password %q (%v), host %q, left in the URL: %v", c.url, user, password, ok,
				req.Host, req.URL.User)
		}
	}
}

func TestNewRequestChangedAtHasMilliseconds(t *testing.T) {
	moscow := time.FixedZone("MSK", 3*60*60)
	for want, at := range map[string]time.Time{
		"2017-05-30T15:07:50.000Z": time.Date(2017, 5, 30, 18, 7, 50, 0, moscow),
		"2017-05-30T15:07:50.120Z": time.Date(2017, 5, 30, 15, 7, 50, 120_000_000, time.UTC),
		"2017-05-30T15:07:50.999Z": time.Date(2017, 5, 30, 15, 7, 50, 999_999_999, time.UTC),
	} {
		d := seedDelivery()
		d.ChangedAt = at
		req, err := NewRequest(t.Context(), d, "agentevents/1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := req.Header.Get("agentevents-changed-at"); got != want {
			t.Errorf("%s is sent as %s, want %s", at, got, want)
		}
	}
}

func TestNewRequestSaysOfWhichTraceItIs(t *testing.T) {
	for _, traceparent := range []string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		d := seedDelivery()
		d.Traceparent = traceparent
		req, err := NewRequest(t.Context(), d, "agentevents", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got, sent := req.Header["Traceparent"]; sent != (traceparent != "") || sent && got[0] != traceparent {
			t.Errorf("sent %q, want %q", got, traceparent)
		}
	}
}

func TestNewRequestRefusesBadURLs(t *testing.T) {
	for _, raw := range []string{
		"", "ftp://h/", "http://", "http://us3r:s3cret@h:0/", "http://h/?s3cret=a b", "http://us3r:s3cret%zz@h/",
		"http://h:s3cret/",
	} {
		d := seedDelivery()
		d.URL = raw
		_, err := NewRequest(t.Context(), d, "agentevents/1", time.Now())
		wantRefused(t, err)
		if err != nil && (strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(err.Error(), "the URL must ")) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// The key of the other agent type is left out, even if it has a value.
func TestEncodePresence(t *testing.T) {
	d := seedDelivery().Data
	d.AgentNumber = "+7 (812) 336-42-42"
	if got := Encode(d); got != seedForm {
		t.Errorf("local:  %s", got)
	}
	d.AgentType = gen.AgentTypeRemote
	const want = "agent_status=available&agent_type=remote&event_source=api&agent_id=136" +
		"&agent_number=%2B7+%28812%29+336-42-42"
	if got := Encode(d); got != want {
		t.Errorf("remote: %s", got)
	}
}

// parseForm reads a form as PHP does, without net/url, on which Encode is built.
func parseForm(form string) (keys []string, values map[string]string) {
	values = map[string]string{}
	for _, field := range strings.Split(form, "&") {
		if field == "" {
			continue
		}
		key, value, _ := strings.Cut(field, "=")
		key = decodePercent(key)
		keys, values[key] = append(keys, key), decodePercent(value)
	}
	return keys, values
}

func decodePercent(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	return regexp.MustCompile("%[0-9A-Fa-f]{2}").ReplaceAllStringFunc(s, func(hex string) string {
		b, _ := strconv.ParseUint(hex[1:], 16, 8)
		return string([]byte{byte(b)})
	})
}

// FuzzEncode sends a name by GET and by POST, through a query of any kind, and reads it as a receiver would.
func FuzzEncode(f *testing.F) {
	for _, name := range []string{
		"000*094@ringme.ru", "+7 (812) 336-42-42", "x", "100 %", "%2B", "a&b=c;d#e?f", "Иван Ж", "\xff\x00", "😀\r\n",
	} {
		f.Add(name, "", false)
		f.Add(name, "a=%2f+&b", true)
	}
	f.Fuzz(func(t *testing.T, name, query string, remote bool) {
		d := seedDelivery()
		d.Data.ExtensionName = name
		last := "extension_name"
		if remote {
			d.Data.AgentType, d.Data.ExtensionName, d.Data.AgentNumber = gen.AgentTypeRemote, "", name
			last = "agent_number"
		}
		d.URL = "http://h/?" + query

		d.Method = gen.RequestMethodPOST
		if req, err := NewRequest(t.Context(), d, "agentevents/1", time.Now()); err == nil {
			wantForm(t, d.Data, last, formOf(onTheWire(t, req)))
		}
		d.Method = gen.RequestMethodGET
		if req, err := NewRequest(t.Context(), d, "agentevents/1", time.Now()); err == nil {
			own, _, _ := strings.Cut(query, "#")
			own = notInQuery.ReplaceAllStringFunc(own, encodedBytes)
			sent, ok := strings.CutPrefix(req.URL.RequestURI(), "/?"+own)
			if !ok {
				t.Fatalf("the query %q became %q", own, req.URL.RequestURI())
			}
			wantForm(t, d.Data, last, sent)
		} else if !strings.ContainsFunc(query, isSpaceOrControl) {
			t.Fatalf("the query %q is refused: %v", query, err)
		}
	})
}

// encodedBytes encodes all bytes that are not encoded.
func encodedBytes(s string) string {
	if len(s) == 3 && s[0] == '%' {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// notInQuery matches encoded bytes and bytes that must be encoded.
var notInQuery = regexp.MustCompile("%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~!$&'()*+,;=:@/?-]")

func wantForm(t *testing.T, d gen.AgentEventData, last, form string) {
	t.Helper()
	keys, values := parseForm(form)
	if diff := cmp.Diff([]string{"agent_status", "agent_type", "event_source", "agent_id", last}, keys); diff != "" {
		t.Fatalf("keys of %q: -want +got:\n%s", form, diff)
	}
	if want := d.ExtensionName + d.AgentNumber; values[last] != want || values["agent_id"] != d.AgentID {
		t.Fatalf("%q comes back as %q", want, values)
	}
}
