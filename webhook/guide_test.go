package webhook_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// The two requests that README.md shows are those that the server sends, to the byte, and the secret that it names has
// signed them.
func TestGuideShowsRequests(t *testing.T) {
	guide, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	if !strings.Contains(string(guide), secret) {
		t.Errorf("README.md does not name the secret %s", secret)
	}
	login := loggedIn("https://crm.example/hook?crm=7", gen.RequestMethodGET, secret)
	login.WebhookID, login.Sequence, login.Epoch = "msg_2HLOI5HRYLVL5Z2RIPBCHS2OUT", 9001, "60303ae22b998861"
	logout := loggedIn("https://crm.example/hook", gen.RequestMethodPOST, secret)
	logout.WebhookID, logout.Sequence, logout.Epoch = "msg_5QJZB3VN4TEMKD7XWAGUFCL6RY", 9002, login.Epoch
	logout.EventType = gen.EventTypeAgentLogout
	logout.Data.AgentStatus, logout.Data.EventSource = gen.AgentStatusValueLoggedOut, gen.EventSourcePhone
	for at, d := range map[string]webhook.Delivery{"2017-05-30T15:07:50Z": login, "2017-05-30T20:01:00Z": logout} {
		if want := "```http\n" + wire(t, d, at) + "\n```\n"; !strings.Contains(string(guide), want) {
			t.Errorf("README.md does not show the request\n%s", want)
		}
	}
	if shown := strings.Count(string(guide), "\n```http\n"); shown != 2 {
		t.Errorf("README.md shows %d requests, want 2", shown)
	}
}

// wire returns the first attempt at a delivery as it is sent at a time, with the line ends of a text.
func wire(t *testing.T, d webhook.Delivery, at string) string {
	t.Helper()
	changed, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	d.ChangedAt = changed
	req, err := webhook.NewRequest(context.Background(), d, "agentevents/1.0.0", changed)
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	if err := req.Write(&sent); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(strings.ReplaceAll(sent.String(), "\r\n", "\n"), "\n")
}
