package e2e

import (
	"cmp"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

func (a api) deliveries(p gen.ListDeliveriesParams) []gen.Delivery {
	a.t.Helper()
	resp, err := a.ListDeliveriesWithResponse(a.t.Context(), pbxClient, &p)
	must(a.t, http.StatusOK, resp, err)
	return *resp.JSON200
}

func (a api) delivery(id int64) gen.DeliveryDetail {
	a.t.Helper()
	resp, err := a.GetDeliveryWithResponse(a.t.Context(), pbxClient, id)
	must(a.t, http.StatusOK, resp, err)
	return *resp.JSON200
}

// awaitFinished waits until a delivery has finished, and returns it.
func (a api) awaitFinished(id int64) (d gen.DeliveryDetail) {
	a.t.Helper()
	eventually(a.t, "the delivery finishes", func() bool {
		d = a.delivery(id)
		return d.Delivery.FinishedAt != nil
	})
	return d
}

func (a api) signIn(id int64) {
	a.t.Helper()
	a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
}

// The delivery log has the exact request that was sent, and its curl command sends the same.
func TestDeliveryLogHasTheExactRequest(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	for i, path := range []string{
		"/fordel/show.php", "/q?left=alone&flag&",
		`/'"$(id)` + "`id`" + `/!*;|?q='"$(id)&x[0]={a,b}&y[]=[1-3]&back\slash#top`,
		"/a/../b//c/./%2e%2e/%2F/ы?z=%zz&ы=я", "?", "",
	} {
		for j, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
			id := int64(2*i + j + 1)
			a.putAgent(gen.AgentTypeLocal, id, `O'Brien "\$HOME" 100%`)
			site := strings.Replace(r.URL, "http://", "http://user:it%27s%20%22@", 1)
			a.createEvent(gen.AgentTypeLocal, id, site+path, method, gen.EventTypeAgentLogin)
			a.signIn(id)
			sent := r.wait(t, int(2*id-1))[2*id-2]
			d := a.awaitFinished(id)
			equal(t, "state", d.Delivery.State, gen.DeliveryStateDelivered)
			equal(t, "webhook-id", d.Delivery.WebhookID, sent.ID)
			checkLogged(t, r, d.Request, sent)
			sh(t, d.Request.Curl)
			checkLogged(t, r, d.Request, r.wait(t, int(2*id))[2*id-1])
		}
	}
	state, limit := gen.DeliveryStateDelivered, 3
	newest := a.deliveries(gen.ListDeliveriesParams{State: &state, Limit: &limit})
	equal(t, "deliveries of a page", len(newest), 3)
	equal(t, "the newest", newest[0].ID, 12)
}

// checkLogged compares a receiver's request with the request in the log.
func checkLogged(t *testing.T, r *receiver, logged gen.SentRequest, got lab.Arrival) {
	t.Helper()
	equal(t, "method", string(logged.Method), got.Method)
	equal(t, "body", logged.Body, got.Body)
	rest, ok := strings.CutPrefix(logged.URL, r.URL)
	if !ok {
		t.Errorf("the URL %s is not at %s", logged.URL, r.URL)
	}
	path, query, _ := strings.Cut(rest, "?")
	equal(t, "path", cmp.Or(path, "/"), got.Path)
	equal(t, "query", query, got.Query)
	for name, values := range got.Header {
		if !slices.Contains([]string{"Accept", "Accept-Encoding", "Content-Length"}, name) {
			equal(t, name, header(logged, name), strings.Join(values, ", "))
		}
	}
	for name, value := range logged.Headers {
		equal(t, name, value, got.Header.Get(name))
	}
}

// header returns a header of the logged request.
func header(logged gen.SentRequest, name string) string {
	for n, value := range logged.Headers {
		if strings.EqualFold(n, name) {
			return value
		}
	}
	return "(not logged)"
}

// sh runs a command line in an empty directory.
func sh(t *testing.T, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// The delivery log has the request that was sent, even if the event was corrected during the attempt.
func TestDeliveryLogKeepsTheRequestBeforeACorrection(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	r.hold(all)
	a.login(r, 1)
	sent := r.wait(t, 1)[0]
	equal(t, "reason", a.delivery(1).Waiting.Reason, "it is under way")
	a.correct(1, 1, gen.AgentEventUpdate{URL: new(r.URL + "/corrected"), Method: new(gen.RequestMethodPOST)})
	r.release()
	d := a.awaitFinished(1)
	checkLogged(t, r, d.Request, sent)
	equal(t, "URL of the attempt", d.Attempts[0].URL, r.URL)
	equal(t, "URL of the delivery", d.Delivery.URL, r.URL+"/corrected")
}

func (a api) correct(agent, event int64, u gen.AgentEventUpdate) {
	a.t.Helper()
	resp, err := a.UpdateLocalAgentEventWithResponse(a.t.Context(), pbxClient, agent, event, u)
	must(a.t, http.StatusOK, resp, err)
}

// A test delivery is sent immediately, even if deliveries of the same agent to the same receiver are pending.
func TestTestDeliveryDoesNotWaitForPendingDeliveries(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	r.hold(func(got *lab.Arrival) bool { return got.Header.Get("agentevents-test") == "" })
	a.login(r, 1)
	a.logout(1)
	r.wait(t, 1)
	for event, want := range []string{
		"GET /?agent_status=available&agent_type=local&event_source=api&agent_id=0&extension_name=test ",
		"POST /? agent_status=logged_out&agent_type=local&event_source=api&agent_id=0&extension_name=test",
	} {
		resp, err := a.TestLocalAgentEventWithResponse(t.Context(), pbxClient, 1, int64(event)+1)
		must(t, http.StatusOK, resp, err)
		got := r.arrivals()[event+1]
		equal(t, "request", got.Request(), want)
		equal(t, "status", resp.JSON200.Attempt.Status, http.StatusOK)
		equal(t, "verdict", resp.JSON200.Attempt.Verdict, "delivered")
		checkLogged(t, r, resp.JSON200.Request, got)
	}
	equal(t, "reason", a.delivery(1).Waiting.Reason, "it is under way")
	equal(t, "delivery that it waits for", a.delivery(2).Waiting.DeliveryID, 1)
	r.release()
	a.awaitFinished(2)
	equal(t, "total of requests", len(r.arrivals()), 4)
}
