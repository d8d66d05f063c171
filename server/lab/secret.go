package lab

import (
	"regexp"
	"strings"
	"sync"
)

// likeSecret is what tokens, signatures, signing secrets and the headers around them look like, and the lab's own
// secret. Ids of requests and of applications look otherwise.
var likeSecret = regexp.MustCompile(`\b[A-Z2-7]{30}\b|whsec_\S+|\bv1,\S+|(?i:bearer|basic) [A-Za-z0-9+/=]{8,}|` +
	`\b[a-z_]*secret=\S+|` + regexp.QuoteMeta(OperatorSecret))

var secrets struct {
	mu    sync.Mutex
	known []string
}

// Tell makes Secret look for a secret that has no look of its own.
func Tell(secret string) {
	secrets.mu.Lock()
	defer secrets.mu.Unlock()
	secrets.known = append(secrets.known, secret)
}

// Secret returns the first secret in a server's log, or nothing.
func Secret(log string) string {
	secrets.mu.Lock()
	defer secrets.mu.Unlock()
	for _, secret := range secrets.known {
		if strings.Contains(log, secret) {
			return secret
		}
	}
	return likeSecret.FindString(log)
}
