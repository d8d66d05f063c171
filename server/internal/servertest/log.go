package servertest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/server/lab"
)

// NoSecrets looks for secrets in what was logged.
func NoSecrets(t testing.TB, log string) {
	t.Helper()
	if secret := lab.Secret(log); secret != "" {
		t.Errorf("the log has the secret %q:\n%s", secret, log)
	}
}

// Log is what was written to it so far.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
