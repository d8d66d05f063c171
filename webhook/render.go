package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// render returns the request to a receiver, to be read, or run as a curl command.
func render(d Delivery, userAgent string, at time.Time, signature string) (gen.SentRequest, error) {
	req, err := NewRequest(context.Background(), d, userAgent, at)
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return gen.SentRequest{
			Method: d.Method, URL: d.URL, Headers: map[string]string{}, Data: d.Data, Curl: "# " + refused.Error(),
		}, nil
	}
	if err != nil && signature == "" {
		return gen.SentRequest{}, err
	}
	if signature != "" {
		req.Header.Set(signatureHeader, signature)
	}
	r := gen.SentRequest{Method: d.Method, URL: req.URL.String(), Headers: map[string]string{}, Data: d.Data}
	for name := range req.Header {
		r.Headers[spelled(name)] = req.Header.Get(name)
	}
	if d.Method == gen.RequestMethodPOST {
		r.Body = Encode(d.Data)
	}
	r.Curl = curl(r)
	return r, nil
}

// spelled is the name of a header as the guide spells it: those of this package, and traceparent, in lower case.
func spelled(name string) string {
	lower := strings.ToLower(name)
	if lower == "traceparent" || strings.HasPrefix(lower, "webhook-") || strings.HasPrefix(lower, "agentevents-") {
		return lower
	}
	return name
}

// curl returns the command line, for a POSIX shell, that sends a request.
func curl(r gen.SentRequest) string {
	words := []string{"curl", "-X", string(r.Method)}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		words = append(words, "-H", quote(fmt.Sprintf("%s: %s", name, r.Headers[name])))
	}
	if r.Body != "" {
		words = append(words, "--data-raw", quote(r.Body))
	}
	return strings.Join(append(words, "-g", "--path-as-is", quote(r.URL)), " ")
}

// quote quotes text as one word of a POSIX shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
