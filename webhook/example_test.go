package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// loggedIn is a delivery of one agent's login, as an outbox hands it out.
func loggedIn(url string, method gen.RequestMethod, secret string) webhook.Delivery {
	return webhook.Delivery{
		WebhookID: "msg_1", URL: url, Method: method, EventType: gen.EventTypeAgentLogin,
		Sequence: 1, ChangedAt: time.Now(), Attempt: 1, Secrets: []string{secret},
		Data: gen.AgentEventData{
			AgentStatus: gen.AgentStatusValueAvailable, AgentType: gen.AgentTypeLocal,
			EventSource: "api", AgentID: "136", ExtensionName: "000*094@ringme.ru",
		},
	}
}

// send makes one attempt at a receiver on this machine, which is possible only in an allowed network.
func send(receiver http.HandlerFunc, method gen.RequestMethod, secret string) webhook.Attempt {
	server := httptest.NewServer(receiver)
	defer server.Close()
	sender := webhook.NewSender(webhook.SenderOptions{
		Guard: webhook.NewGuard(webhook.GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	defer sender.Close()
	return sender.Send(context.Background(), loggedIn(server.URL+"/hook?crm=7", method, secret))
}

// A receiver of GET requests verifies the raw query as it arrived, with the parameters of its own URL.
func ExampleVerify() {
	secret := webhook.NewSecret() // a receiver has the client's secret: GET /client/{client_id}/secret/
	receiver := func(w http.ResponseWriter, r *http.Request) {
		if err := webhook.Verify(r.Header, r.URL.RawQuery, secret); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println("agent", r.FormValue("agent_id"), "is", r.FormValue("agent_status"))
	}

	attempt := send(receiver, gen.RequestMethodGET, secret)
	fmt.Println(attempt.Verdict)
	// Output:
	// agent 136 is available
	// delivered
}

// A receiver of POST requests verifies the body as it arrived, before it parses the form.
func ExampleVerify_post() {
	secret := webhook.NewSecret()
	receiver := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			err = webhook.Verify(r.Header, string(body), secret)
		}
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println(string(body))
	}

	attempt := send(receiver, gen.RequestMethodPOST, secret)
	fmt.Println(attempt.Verdict)
	// Output:
	// agent_status=available&agent_type=local&event_source=api&agent_id=136&extension_name=000%2A094%40ringme.ru
	// delivered
}

// A guard refuses private networks, except those that the operator allows.
func ExampleGuard() {
	guard := webhook.NewGuard(webhook.GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}})
	for _, url := range []string{"https://crm.example/hook", "http://10.1.2.3/hook", "http://169.254.169.254/latest"} {
		fmt.Println(url, guard.CheckURL(url) == nil)
	}
	// Output:
	// https://crm.example/hook true
	// http://10.1.2.3/hook true
	// http://169.254.169.254/latest false
}

// The receiver is overloaded and asks for half a minute, so the attempt is to be repeated after that time.
func ExampleSender() {
	busy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "too many calls")
	}

	attempt := send(busy, gen.RequestMethodPOST, webhook.NewSecret())
	fmt.Println(attempt.Status, attempt.Verdict, attempt.RetryAfter, attempt.Excerpt)
	// Output: 503 retry 30s too many calls
}

// The default schedule waits longer after each failure. A Retry-After of the receiver replaces its delay.
func ExampleSchedule() {
	schedule := webhook.DefaultSchedule()
	schedule.Jitter = 0
	for failure := 1; failure <= 7; failure++ {
		fmt.Print(schedule.Delay(failure, 0), " ")
	}
	fmt.Println("or", schedule.Delay(1, 20*time.Second))
	// Output: 5s 30s 2m0s 10m0s 30m0s 1h0m0s 1h0m0s or 20s
}
