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
		for limit.Allow("of "+application, application) == nil {
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

// All applications of a client together get 600 tokens at once, then 40 a second. Another client has its own limit, and
// an operator's applications have none together.
func TestTokenRateOfAClient(t *testing.T) {
	now := time.Now()
	limit := NewTokenRate(func() time.Time { return now })
	allowed := func(client string, applications ...string) (n int) {
		for _, a := range applications {
			for limit.Allow(client, client+a) == nil {
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
