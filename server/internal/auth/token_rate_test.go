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
		for limit.Allow(application) == nil {
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
