package webhook

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// packed returns text in one of the codings.
func packed(t *testing.T, text string, open func(io.Writer) io.WriteCloser) string {
	t.Helper()
	var b bytes.Buffer
	w := open(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asGzip(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
func asZlib(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
func asFlate(w io.Writer) io.WriteCloser {
	f, _ := flate.NewWriter(w, flate.BestCompression) // an error is of the level alone
	return f
}

// chunked frames a body, with trailers after it.
func chunked(body string) string {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	if body == "" {
		chunk = "" // an empty one is the last one
	}
	return "Transfer-Encoding: chunked\r\n\r\n" + chunk + "0\r\nX-Checksum: 1\r\n\r\n"
}

func measured(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// untilTheEnd is a body that ends with the connection.
func untilTheEnd(body string) string { return "Connection: close\r\n\r\n" + body }

// A complete answer is judged by its status, whatever the Content-Encoding of its body. The excerpt is the part that
// can be decoded.
func TestSendJudgesAnAnswerByItsStatus(t *testing.T) {
	const text = "no such agent: Иванов"
	gz := packed(t, text, asGzip)
	long := strings.Repeat("0123456789abcdef", 1<<12)
	cases := []struct{ name, header, body, excerpt string }{
		{"text called gzip", "Content-Encoding: gzip\r\n", "ok", "ok"},
		{"nothing called gzip", "Content-Encoding: gzip\r\n", "", ""},
		{"one byte called gzip", "Content-Encoding: gzip\r\n", "1", "1"},
		{"text called deflate", "Content-Encoding: deflate\r\n", "ok", "ok"},
		{"text called br", "Content-Encoding: br\r\n", text, text},
		{"text called zstd, gzip", "Content-Encoding: zstd, gzip\r\n", text, text},
		{"gzip", "Content-Encoding: gzip\r\n", gz, text},
		{"GZIP", "Content-Encoding: GZIP\r\n", gz, text},
		{"x-gzip", "Content-Encoding: x-gzip\r\n", gz, text},
		{"gzip and a line end", "Content-Encoding: gzip\r\n", gz + "\r\n", text},
		{"gzip and a byte", "Content-Encoding: gzip\r\n", gz + "\x00", text},
		{"gzip in two members", "Content-Encoding: gzip\r\n", gz + gz, text + text},
		{"gzip with a wrong sum", "Content-Encoding: gzip\r\n", gz[:len(gz)-8] + "xxxxxxxx", text},
		{"gzip without its end", "Content-Encoding: gzip\r\n", gz[:len(gz)-8], text},
		{"the beginning of gzip", "Content-Encoding: gzip\r\n", gz[:10], ""},
		{"gzip of nothing", "Content-Encoding: gzip\r\n", packed(t, "", asGzip), ""},
		{"gzip of much", "Content-Encoding: gzip\r\n", packed(t, strings.Repeat(long, 100), asGzip), long[:maxExcerpt]},
		{"gzip of what is no text", "Content-Encoding: gzip\r\n", packed(t, "a\x00\xffb", asGzip), "a\ufffd\ufffdb"},
		{"deflate", "Content-Encoding: deflate\r\n", packed(t, text, asZlib), text},
		{"deflate without an envelope", "Content-Encoding: deflate\r\n", packed(t, text, asFlate), text},
		{"gzip called deflate", "Content-Encoding: deflate\r\n", gz, ""},
		{"gzip called br", "Content-Encoding: br\r\n", gz, ""},
		{"gzip twice", "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", gz, ""},
		{"gzip without a header", "", gz, excerpt([]byte(gz))},
		{"text called identity", "Content-Encoding: identity\r\n", text, text},
		{"another charset", "Content-Type: text/plain; charset=windows-1251\r\n", "\xce\xea", "\ufffd"},
		{"another charset, called gzip", "Content-Encoding: gzip\r\n", "\xce\xea, \xce\xea!", ""},
		{"the same length twice", "Content-Length: 2\r\n", "ok", "ok"},
	}
	for _, c := range cases {
		for framing, framed := range map[string]func(string) string{
			"measured": measured, "chunked": chunked, "until the end": untilTheEnd,
		} {
			if strings.HasPrefix(c.header, "Content-Length") && framing != "measured" {
				continue
			}
			t.Run(c.name+", "+framing, func(t *testing.T) {
				for status, verdict := range map[int]Verdict{200: Delivered, 410: Gone, 503: Retry} {
					s := loopbackSender(t, ample)
					address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
						_, _, _ = readRequest(r)
						fmt.Fprintf(conn, "HTTP/1.1 %d X\r\n%s%s", status, c.header, framed(c.body))
					})
					got := s.Send(t.Context(), to("http://"+address, gen.RequestMethodPOST))
					wantAttempt(t, got, status, verdict, "")
					if got.Excerpt != c.excerpt {
						t.Errorf("excerpt %q, want %q", got.Excerpt, c.excerpt)
					}
				}
			})
		}
	}
}

// An answer without its last part is incomplete, and the excerpt is the part that arrived.
func TestSendNoticesWhatDidNotArrive(t *testing.T) {
	gz := packed(t, strings.Repeat("no such agent ", 8), asGzip)
	for name, answer := range map[string]string{
		"measured": "Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n" + gz,
		"chunked": fmt.Sprintf("Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(gz),
			gz),
		"a chunk": "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + gz,
	} {
		t.Run(name, func(t *testing.T) {
			s := loopbackSender(t, ample)
			address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
				_, _, _ = readRequest(r)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+answer)
			})
			got := s.Send(t.Context(), to("http://"+address, gen.RequestMethodPOST))
			wantAttempt(t, got, 200, Retry, "the receiver closed the connection before its answer was complete")
			if want := strings.Repeat("no such agent ", 8); got.Excerpt != want {
				t.Errorf("excerpt %q", got.Excerpt)
			}
		})
	}
}

// An answer with a body where HTTP allows none counts as an answer.
func TestSendBodyWhereThereIsNone(t *testing.T) {
	log.SetOutput(io.Discard) // net/http says that there is more
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for _, answer := range []string{"204 No Content", "304 Not Modified"} {
		for _, header := range []string{
			"Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n", "Content-Encoding: gzip\r\n", "",
		} {
			s := loopbackSender(t, ample)
			address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
				_, _, _ = readRequest(r)
				_, _ = io.WriteString(conn, "HTTP/1.1 "+answer+"\r\n"+header+"\r\nok")
			})
			got := s.Send(t.Context(), to("http://"+address, gen.RequestMethodGET))
			if fmt.Sprint(got.Status) != answer[:3] || got.Error != "" || got.Excerpt != "" {
				t.Errorf("%s, %s: %+v", answer, header, got)
			}
		}
	}
}

// Render shows every header that is sent, except those of HTTP itself.
func TestSendSendsTheHeadersThatAreShown(t *testing.T) {
	s := loopbackSender(t, ample)
	for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
		arrived := make(chan map[string]string, 1)
		address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
			req, _, _ := readRequest(r)
			headers := map[string]string{}
			for name := range req.Header {
				headers[spelled(name)] = req.Header.Get(name)
			}
			arrived <- headers
			_, _ = io.WriteString(conn, "HTTP/1.1 204 OK\r\n\r\n")
		})
		d := to("http://"+address, method)
		d.Secrets = []string{NewSecret()}
		got := s.Send(t.Context(), d)
		shown, err := s.Render(d, got.StartedAt, got.Signature)
		if err != nil {
			t.Fatal(err)
		}
		headers := <-arrived
		delete(headers, "Content-Length")
		if fmt.Sprint(headers) != fmt.Sprint(shown.Headers) {
			t.Errorf("%s\nsent  %v\nshown %v", method, headers, shown.Headers)
		}
		if headers["Accept"] != "*/*" || !strings.Contains(shown.Curl, "-H 'Accept: */*'") {
			t.Errorf("%s: Accept is %q, and shown as %s", method, headers["Accept"], shown.Curl)
		}
	}
}
