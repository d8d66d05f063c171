package lab

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Show omits states that follow too soon. Print omits nothing.
func TestProgressShowsStatesAtIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := Progress{Out: &out, Every: time.Minute}
		for range 20 {
			p.Show("cycle %d", 1)
			time.Sleep(30 * time.Second)
		}
		p.Print("the %s\n", "end")
		if got, want := out.String(), strings.Repeat("cycle 1\n", 10)+"the end\n"; got != want {
			t.Errorf("it shows %q", got)
		}
	})
}

func TestUntilEndsWithConditionLimitOrContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		looks := 0
		if err := Until(ctx, time.Minute, func() bool { looks++; return looks == 3 }); err != nil || looks != 3 {
			t.Errorf("%d calls of the condition (%v)", looks, err)
		}
		began := time.Now()
		err := Until(ctx, time.Minute, func() bool { return false })
		if took := time.Since(began); !errors.Is(err, ErrLate) || took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("%v after %v", err, took)
		}
		cancel()
		if err := Until(ctx, time.Minute, func() bool { return false }); !errors.Is(err, context.Canceled) {
			t.Errorf("when the context has ended: %v", err)
		}
	})
}
