package api

import (
	"net/url"
	"testing"

	"github.com/agentevents/agentevents/server/internal/request"
)

// The link to the next page is the URL of the request with another start.
func TestNextPageKeepsTheOtherParameters(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"/x/":                            "/x/?before=7",
		"/x?":                            "/x?before=7",
		"/x/?before=9&limit=2":           "/x/?before=7&limit=2",
		"/x/?limit=2&before=9&before=8":  "/x/?before=7&limit=2",
		"/x/?since=a%20b+c%26&y":         "/x/?before=7&since=a+b+c%26&y=",
		"/x/?q=%22%3E%3B,%0d%0aX-Evil:1": "/x/?before=7&q=%22%3E%3B%2C%0D%0AX-Evil%3A1",
		"/x/?bad=%zz&limit=2":            "/x/?before=7&limit=2",
		"/a%2Fb/%3Cscript%3E/":           "/a%2Fb/%3Cscript%3E/?before=7",
	} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		link := nextPage(request.NewContext(t.Context(), &request.Info{URL: u}), "before", 7)
		if link == nil || *link != "<"+want+`>; rel="next"` {
			t.Errorf("the next page of %s is %v, want %s", from, link, want)
		}
	}
	if link := nextPage(t.Context(), "before", 7); link != nil {
		t.Errorf("without a URL, Link is %s", *link)
	}
}

// A surplus item is cut off. It proves that there is a next page.
func TestPageBeforeCutsTheSurplusItem(t *testing.T) {
	t.Parallel()
	ctx := request.NewContext(t.Context(), &request.Info{URL: &url.URL{Path: "/x/"}})
	list := []int64{9, 8, 7}
	for limit, want := range map[int]string{1: "9", 2: "8", 3: "", 100: ""} {
		page, link := pageBefore(ctx, list, limit, func(id int64) int64 { return id })
		switch {
		case len(page) != min(limit, 3):
			t.Errorf("a page of %d has %v", limit, page)
		case (link == nil) != (want == ""):
			t.Errorf("a page of %d: Link is %v", limit, link)
		case link != nil && *link != "</x/?before="+want+`>; rel="next"`:
			t.Errorf("a page of %d: Link is %s", limit, *link)
		}
	}
	if page, link := pageBefore(ctx, nil, 1, func(id int64) int64 { return id }); len(page) != 0 || link != nil {
		t.Errorf("a page of an empty list has %v", page)
	}
}
