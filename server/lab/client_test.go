package lab

import (
	"fmt"
	"io"
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
	_, err := w.Call([]byte("GET /missing HTTP/1.1\r\nHost: x\r\n\r\n"))
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("404 is %v", err)
	}
}
