package postgres

import (
	"strings"
	"testing"
)

func TestRedactHidesPasswordAndParameters(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://pbx:s3cret@db.example:5433/agents?sslmode=disable": "postgres://pbx@db.example:5433/agents",
		"postgresql://pbx:s3cret@db.example/agents":                    "postgres://pbx@db.example:5432/agents",
		"postgres://pbx:s3cret@[::1]/agents":                           "postgres://pbx@[::1]:5432/agents",
		"postgres://pbx:s3cret@db.example:port/agents":                 "postgres:",
	} {
		if got := Redact(url); got != want || !IsURL(url) {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
		err := CheckURL(url)
		if (err != nil) != (want == "postgres:") || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if IsURL("sqlite:postgres://") {
		t.Error("the URL of a file counts as one of PostgreSQL")
	}
}
