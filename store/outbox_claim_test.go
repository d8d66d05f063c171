package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// A claim has room for few lanes. The lane of a client with one receiver is among them, even if another client has many
// receivers whose lanes are due earlier. A claim skips full clients.
func TestClaimIsFairAmongClients(t *testing.T) {
	f := open(t)
	k := f.agentsWith("12", 0)[0]
	for i := range 8 {
		f.createEvents(k, fmt.Sprintf("http://many.example:%d/", 1000+i), gen.EventTypeAgentLogin)
	}
	f.login(k)
	f.clock.add(1)
	quiet := f.agentsWith("13", 1)[0]
	f.login(quiet)
	var asked []string
	claim := func(full ...string) []webhook.Delivery {
		asked = nil
		claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{
			Lanes: 2, PerReceiver: 2, FullClients: full, Take: func(client string, _ int64) bool {
				asked = append(asked, client)
				return client != "12"
			},
		})
		f.check(err)
		return claimed
	}
	if d := claim(); len(d) != 1 || d[0].Client != "13" || !slices.Contains(asked, "12") {
		t.Errorf("claimed %+v, asked for %v", d, asked)
	}
	if d := claim("12"); len(d) != 0 || len(asked) != 0 {
		t.Errorf("claimed %+v of a full client, asked for %v", d, asked)
	}
}
