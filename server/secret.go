package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// minDistinct is how many different characters a secret must have at least. A random one of 16 hexadecimal digits has
// 10 on average.
const minDistinct = 8

// isGuessable reports whether a secret is so regular that an attacker would try it: it has few different characters, it
// repeats a shorter text, or more than three quarters of its characters are the same as, or next to, the one before.
func isGuessable(secret string) bool {
	distinct, near := map[byte]bool{}, 0
	for i := range len(secret) {
		distinct[secret[i]] = true
		if i > 0 && max(secret[i], secret[i-1])-min(secret[i], secret[i-1]) <= 1 {
			near++
		}
	}
	return len(distinct) < minDistinct || near > 3*(len(secret)-1)/4 || repeats(secret)
}

// repeats reports whether a text is a shorter one, at least twice, the last time perhaps in part.
func repeats(text string) bool {
	for n := 1; n <= len(text)/2; n++ {
		if text[n:] == text[:len(text)-n] {
			return true
		}
	}
	return false
}

// readSecret returns the text in a file, without spaces around it.
func readSecret(file string) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", errors.New("must name a file that is not empty")
	}
	return text, nil
}

// warnOfExposedFiles logs each file of a secret that other users of the machine may read or write. An empty name is
// none.
func warnOfExposedFiles(log *slog.Logger, files ...string) {
	for _, file := range files {
		info, err := os.Stat(file)
		if err == nil && info.Mode()&0o007 != 0 {
			log.Warn("secret file open to other users", "path", file, "mode", info.Mode().String())
		}
	}
}
