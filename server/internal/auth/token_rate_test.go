package auth

import (
	"testing"
	"time"
)

// An application gets 300 tokens at once, then 20 a second. Another application has its own limit.
func TestTokenRate(t *testing.T) {
	now := time.Now()
	limit := NewTokenRate(func() time.Time { return now })
	allowed := func(application string) (n int) {
		for limit.Allow("of "+application, application, "s") == nil {
			n++
		}
		return n
	}
	if n := allowed("a"); n != 300 {
		t.Errorf("%d tokens at once", n)
	}
	if n := allowed("b"); n != 300 {
		t.Errorf("%d tokens at once of another application", n)
	}
	now = now.Add(time.Second)
	if n := allowed("a"); n != 20 {
		t.Errorf("%d tokens a second later", n)
	}
}

// After a refusal, the next ones need no look at the store: as long as the application has no token left, with the same
// secret, for a second.
func TestTokenRateRefusesEarly(t *testing.T) {
	now := time.Now()
	limit := NewTokenRate(func() time.Time { return now })
	early := func(secret string, want bool) {
		t.Helper()
		if err := limit.RefuseEarly("a", secret); (err != nil) != want {
			t.Errorf("with secret %q: %v", secret, err)
		}
	}
	early("s", false)
	for limit.Allow("", "a", "s") == nil {
		early("s", false)
	}
	early("s", true)
	early("wrong", false)
	now = now.Add(49 * time.Millisecond)
	early("s", true)
	now = now.Add(time.Millisecond)
	early("s", false) // it may have another token
	if err := limit.Allow("", "a", "s"); err != nil {
		t.Error(err)
	}
	early("s", true)
	for range 20 {
		now = now.Add(50 * time.Millisecond)
		if err := limit.Allow("", "a", "s"); err != nil {
			t.Error(err)
		}
	}
	early("s", false) // the secret may have been revoked
}

// All applications of a client together get 600 tokens at once, then 40 a second. Another client has its own limit, and
// an operator's applications have none together.
func TestTokenRateOfAClient(t *testing.T) {
	now := time.Now()
	limit := NewTokenRate(func() time.Time { return now })
	allowed := func(client string, applications ...string) (n int) {
		for _, a := range applications {
			for limit.Allow(client, client+a, "s") == nil {
				n++
			}
		}
		return n
	}
	if n := allowed("12", "a", "b", "c"); n != 600 {
		t.Errorf("%d tokens at once of a client", n)
	}
	if n := allowed("13", "a"); n != 300 {
		t.Errorf("%d tokens at once of another client", n)
	}
	if n := allowed("", "a", "b", "c"); n != 900 {
		t.Errorf("%d tokens at once of an operator", n)
	}
	now = now.Add(time.Second)
	if n := allowed("12", "a", "b", "c"); n != 40 {
		t.Errorf("%d tokens of the client a second later", n)
	}
}
