package api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
)

func TestContentTypeMustBeJSON(t *testing.T) {
	ls := newLiveServer(t)
	for typ, status := range map[string]int{
		"application/json": 201, "application/json; charset=utf-8": 200, "Application/JSON;charset=UTF-8": 200,
		"application/json;": 200, "application/json; charset": 200,
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/merge-patch+json": 415,
		"application/jsonx": 415, "application/json, text/plain": 415, "*/*": 415, ";": 415,
	} {
		r := ls.request("PUT", contract.BasePath+"/client/12", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", typ)
		g := ls.send(r)
		if status == 415 {
			ls.expect(g, status, `{"message":"the Content-Type must be application/json"}`)
		} else if g.status/100 != 2 {
			t.Errorf("%q: %d %s", typ, g.status, g.body)
		}
	}
}

func TestBodyIsRequired(t *testing.T) {
	ls := newLiveServer(t)
	for _, typ := range []string{"", "application/json", "text/plain"} {
		for _, body := range []io.Reader{http.NoBody, struct{ io.Reader }{strings.NewReader("")}} {
			r := ls.request("PUT", contract.BasePath+"/client/12", body)
			r.Header.Set("Content-Type", typ)
			ls.expect(ls.send(r), http.StatusBadRequest, `{"message":"a JSON body is required"}`)
		}
	}
}

func TestBodySizeIsLimited(t *testing.T) {
	ls := newLiveServer(t)
	for _, chunked := range []bool{false, true} {
		for size, status := range map[int]int{
			64 << 10: 200, 64<<10 + 1: 413, 3 << 20: 413,
		} {
			var body io.Reader = strings.NewReader(`{"name":"x"}` + strings.Repeat(" ", size-12))
			if chunked {
				body = struct{ io.Reader }{body}
			}
			r := ls.request("PUT", contract.BasePath+"/client/12", body)
			r.Header.Set("Content-Type", "application/json")
			g := ls.send(r)
			if status == 413 {
				ls.expect(g, status, `{"message":"the body may have at most 65536 bytes"}`)
			} else if g.status/100 != 2 {
				t.Errorf("%d bytes: %d %s", size, g.status, g.body)
			}
		}
	}
}

func TestInvalidJSONIsRefusedWithItsPosition(t *testing.T) {
	ls := newLiveServer(t)
	const early = "the body must be valid JSON; it ends too early"
	for body, want := range map[string]string{
		`{"name":"x"`:           early,
		` `:                     early,
		`{"name":"x"}}`:         "the body must be valid JSON; line 1, column 13 is not",
		`{"name":"x"} {}`:       "the body must be valid JSON; line 1, column 14 is not",
		"{\n \"nämé\": x}":      "the body must be valid JSON; line 2, column 10 is not",
		"{\"name\":\n\n\nNaN}":  "the body must be valid JSON; line 4, column 1 is not",
		`name=x`:                "the body must be valid JSON; line 1, column 2 is not",
		`{'name':'x'}`:          "the body must be valid JSON; line 1, column 2 is not",
		"\ufeff{}":              "the body must not begin with a byte order mark",
		"\xff\xfe{\x00}\x00":    "the body must be UTF-8, not UTF-16",
		"\xfe\xff\x00{\x00}":    "the body must be UTF-8, not UTF-16",
		strings.Repeat("[", 32): early,
		"{\"name\":\"\xff\"}":   "the body must be valid UTF-8",
	} {
		g := ls.call("PUT", "/client/12", body)
		if e := ls.errorOf(g); g.status != http.StatusBadRequest || e.Message != want {
			t.Errorf("%.40q: %d %s, want %s", body, g.status, g.body, want)
		}
	}
}

func TestRepeatedMemberIsRefused(t *testing.T) {
	ls := newLiveServer(t)
	ls.expect(ls.call("PUT", "/client/12", `{"name":"x","name":"y"}`), http.StatusBadRequest,
		`{"message":"the request is not valid","errors":[{"field":"name","message":"must be given only once"}]}`)
	ls.expect(ls.call("GET", "/client/12", ""), http.StatusNotFound, "")
}
