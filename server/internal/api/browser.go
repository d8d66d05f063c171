package api

import (
	"net/http"
	"strings"
)

// The values of Content-Security-Policy, as http.Header stores them. No page may show an answer in a frame.
var (
	defaultPolicy = policy("default-src 'none'")
	// The CSS of Swagger UI has inline pictures.
	docsPolicy = policy("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
		"img-src 'self' data:")
	// The list of profiles has an inline style.
	profilesPolicy = policy("default-src 'none'; style-src 'unsafe-inline'")

	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
)

func policy(sources string) []string {
	return []string{sources + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
}

// BrowserHeaders adds to every answer of a handler the headers that restrict what a browser does with it.
func BrowserHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setBrowserHeaders(w.Header(), policyOf(r.URL.Path))
		next.ServeHTTP(w, r)
	})
}

func setBrowserHeaders(h http.Header, csp []string) {
	h["Content-Security-Policy"] = csp
	h["X-Content-Type-Options"] = nosniff
	h["Referrer-Policy"] = noReferrer
}

func policyOf(path string) []string {
	switch {
	case strings.HasPrefix(path, "/docs/"):
		return docsPolicy
	case path == "/debug/pprof/":
		return profilesPolicy
	}
	return defaultPolicy
}
