package api

import (
	"net/http"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/internal/contract"
)

// The Go client omits parameters that are nil, even if others are set.
func TestGoClientOmitsNilParameters(t *testing.T) {
	ls := newLiveServer(t)
	ls.call("PUT", "/client/12", `{}`)
	ls.call("PUT", "/client/12/agent/local/1", `{"extension_name":"x"}`)
	ls.call("PUT", "/client/12/agent/remote/1", `{"agent_number":"x"}`)
	c, err := client.NewClient(ls.URL+contract.BasePath, client.WithHTTPClient(ls.Client()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, list := range []func() (*http.Response, error){
		func() (*http.Response, error) { return c.ListClients(ctx, &gen.ListClientsParams{}) },
		func() (*http.Response, error) { return c.ListClients(ctx, &gen.ListClientsParams{Limit: new(1)}) },
		func() (*http.Response, error) { return c.ListClients(ctx, &gen.ListClientsParams{After: new("11")}) },
		func() (*http.Response, error) { return c.ListLocalAgents(ctx, "12", &gen.ListLocalAgentsParams{}) },
		func() (*http.Response, error) {
			return c.ListLocalAgents(ctx, "12", &gen.ListLocalAgentsParams{After: new(int64(1))})
		},
		func() (*http.Response, error) { return c.ListRemoteAgents(ctx, "12", &gen.ListRemoteAgentsParams{}) },
		func() (*http.Response, error) {
			return c.ListRemoteAgents(ctx, "12", &gen.ListRemoteAgentsParams{ExtensionID: []int64{5, 6}})
		},
		func() (*http.Response, error) {
			return c.ListLocalAgentEvents(ctx, "12", 1, &gen.ListLocalAgentEventsParams{})
		},
		func() (*http.Response, error) {
			return c.ListRemoteAgentEvents(ctx, "12", 1, &gen.ListRemoteAgentEventsParams{})
		},
		func() (*http.Response, error) { return c.ListDeliveries(ctx, "12", &gen.ListDeliveriesParams{}) },
		func() (*http.Response, error) { return c.ListReplays(ctx, "12", &gen.ListReplaysParams{}) },
		func() (*http.Response, error) { return c.ListStatusChanges(ctx, "12", &gen.ListStatusChangesParams{}) },
		func() (*http.Response, error) {
			return c.ListLocalAgentStatusChanges(ctx, "12", 1, &gen.ListLocalAgentStatusChangesParams{})
		},
		func() (*http.Response, error) {
			return c.ListRemoteAgentStatusChanges(ctx, "12", 1, &gen.ListRemoteAgentStatusChangesParams{})
		},
	} {
		resp, err := list()
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s, %v", resp.Request.URL, resp.Status, err)
		}
	}
}
