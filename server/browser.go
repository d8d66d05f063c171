package main

import (
	"net/http"
	"strings"
)

// What a browser may load for an answer, by Content-Security-Policy. No answer may be shown in a frame.
var (
	policyOfNothing = policy("default-src 'none'")
	// Swagger UI styles its elements inline, and has pictures in its CSS.
	policyOfDocs = policy("default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"style-src 'self' 'unsafe-inline'")
	// The list of profiles has its style inline.
	policyOfProfiles = policy("default-src 'none'; style-src 'unsafe-inline'")
)

func policy(sources string) []string {
	return []string{sources + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
}

var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
)

// guardBrowsers adds to every answer the headers that bound what a browser does with it.
func guardBrowsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Security-Policy"] = policyOf(r.URL.Path)
		h["X-Content-Type-Options"] = nosniff
		h["Referrer-Policy"] = noReferrer
		next.ServeHTTP(w, r)
	})
}

func policyOf(path string) []string {
	switch {
	case strings.HasPrefix(path, "/docs/"):
		return policyOfDocs
	case strings.HasPrefix(path, "/debug/pprof/"):
		return policyOfProfiles
	}
	return policyOfNothing
}
