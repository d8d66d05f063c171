package main

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGuessableSecrets(t *testing.T) {
	for _, secret := range []string{
		strings.Repeat("a", 16), "aaaabbbbccccdddd", "abababababababab", "passwordpassword",
		"0123456789abcdef", "abcdefghijklmnop", "ponmlkjihgfedcba", "aabbccddeeffgghh", "1234567812345678",
		"ABCDEFGHIJ1234567890",
	} {
		if !isGuessable(secret) {
			t.Errorf("%s is taken", secret)
		}
	}
	for _, secret := range []string{"correct-horse-battery", "a-secret-of-the-lab-alone", "7f3a9c0b5e2d8416"} {
		if isGuessable(secret) {
			t.Errorf("%s is refused", secret)
		}
	}
	for range 1000 {
		if secret := rand.Text(); isGuessable(secret) {
			t.Errorf("the random %s is refused", secret)
		}
	}
}

// A start with such a secret says what is wrong, and does not show it.
func TestConfigRefusesGuessableSecrets(t *testing.T) {
	_, err := configOf(t, nil, []string{"AGENTEVENTS_OPERATOR_ID=pbx", "AGENTEVENTS_OPERATOR_SECRET=0123456789abcdef"})
	if err == nil || !strings.Contains(err.Error(), "OPERATOR_SECRET must be a secret that is not easy to guess") ||
		strings.Contains(err.Error(), "0123456789abcdef") {
		t.Errorf("got %v", err)
	}
}

func TestWarningOfExposedFiles(t *testing.T) {
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var log bytes.Buffer
	warnOfExposedFiles(slog.New(slog.NewTextHandler(&log, nil)), "", write("own", 0o600), write("group", 0o640),
		write("exposed", 0o666), write("readable", 0o604))
	if text := log.String(); strings.Count(text, "secret file open to other users") != 2 ||
		!strings.Contains(text, "exposed mode=-rw-rw-rw-") || !strings.Contains(text, "readable mode=-rw----r--") {
		t.Errorf("logged are\n%s", text)
	}
}
