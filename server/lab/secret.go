package lab

import (
	"regexp"
	"strings"
	"sync"
)

// likeSecret is what tokens, signatures, signing secrets and the headers around them look like, and the lab's own
// secret. Ids of requests and of applications look otherwise.
var likeSecret = regexp.MustCompile(`\b[A-Z2-7]{30}\b|whsec_\S+|\bv1,\S+|(?i:bearer|basic) [A-Za-z0-9+/=]{8,}|\b[a-z_]*secret=\S+|` +
	regexp.QuoteMeta(OperatorSecret))

var told struct {
	mu      sync.Mutex
	secrets []string
}

// Tell makes Secret look for a secret that has no look of its own.
func Tell(secret string) {
	told.mu.Lock()
	defer told.mu.Unlock()
	told.secrets = append(told.secrets, secret)
}

// Secret returns the first thing in a server's log that should not be there, or nothing.
func Secret(log string) string {
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, secret := range told.secrets {
		if strings.Contains(log, secret) {
			return secret
		}
	}
	return likeSecret.FindString(log)
}
