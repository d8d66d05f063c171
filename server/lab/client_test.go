package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// Wire reads an answer completely, with or without chunks, and then the next one. An error status is an error.
func TestWireReadsWholeAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		sent, _ := io.ReadAll(r.Body)
		if !strings.Contains(r.Host, "chunks") {
			w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
		}
		_, _ = w.Write(sent)
	}))
	defer server.Close()
	w := Wire{Addr: strings.TrimPrefix(server.URL, "http://")}
	defer w.Close()
	for _, host := range []string{"x", "chunks", "x"} {
		for _, want := range []string{"", `{"sequence": 17}`, strings.Repeat("x", 100_000), `{"sequence":5,`} {
			head := fmt.Sprintf("PUT / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", host, len(want))
			answer, err := w.Call([]byte(head + want))
			if err != nil || string(answer) != want {
				t.Fatalf("%s: %d bytes are answered with %d (%v)", host, len(want), len(answer), err)
			}
		}
	}
	for range 2 { // after an error, the next call uses another connection
		_, err := w.Call([]byte("GET /missing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
		if status := (*StatusError)(nil); !errors.As(err, &status) || status.Status != http.StatusNotFound {
			t.Errorf("404 is %v", err)
		}
	}
	dialled := errors.New("dialled")
	w.Dial = func() (net.Conn, error) { return nil, dialled }
	if _, err := w.Call(nil); !errors.Is(err, dialled) {
		t.Errorf("with a function that connects, the error is %v", err)
	}
}
