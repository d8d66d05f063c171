package api

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// Each example of a sent request in openapi.yaml is what the server shows: it has all headers, the signature verifies,
// and the command sends the same request.
func TestContractShowsRealRequests(t *testing.T) {
	t.Parallel()
	spec := testDocument(t).spec
	secret := spec.Components.Responses["Secret"].Value.Content["application/json"].Example.(map[string]any)["secret"]
	detail := jsonExample[gen.DeliveryDetail](t, spec.Components.Responses["DeliveryDetail"].Value)
	wantRendered(t, detail.Request, secret.(string))
	wantRendered(t, jsonExample[gen.EventTestResult](t, spec.Components.Responses["EventTest"].Value).Request,
		secret.(string))
	for _, kind := range []string{"local", "remote"} {
		list := spec.Paths.Value("/client/{client_id}/agent/" + kind + "/{agent_id}/event/{event_id}/test").Get
		for _, test := range jsonExample[[]gen.EventTestResult](t, list.Responses.Value("200").Value) {
			wantRendered(t, test.Request, secret.(string))
			if string(test.Request.Data.AgentType) != kind {
				t.Errorf("the test delivery of a %s agent is of a %s one", kind, test.Request.Data.AgentType)
			}
		}
	}
	fields := spec.Components.Schemas["SentRequest"].Value.Properties
	if fields["url"].Value.Example != detail.Request.URL || fields["curl"].Value.Example != detail.Request.Curl ||
		len(fields["headers"].Value.Example.(map[string]any)) != len(detail.Request.Headers) {
		t.Error("the fields of SentRequest have other examples than DeliveryDetail")
	}
}

// jsonExample is the example of a response.
func jsonExample[M any](t *testing.T, r *openapi3.Response) (m M) {
	t.Helper()
	text, err := json.Marshal(r.Content["application/json"].Example)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantRendered compares a request with the one that the server renders for the delivery that its headers describe.
func wantRendered(t *testing.T, got gen.SentRequest, secret string) {
	t.Helper()
	header := got.Headers
	number := func(name string) int64 {
		n, err := strconv.ParseInt(header[name], 10, 64)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return n
	}
	changed, err := time.Parse(time.RFC3339, header["agentevents-changed-at"])
	if err != nil {
		t.Error(err)
	}
	sender := webhook.NewSender(webhook.SenderOptions{UserAgent: header["User-Agent"]})
	defer sender.Close()
	want, err := sender.Render(webhook.Delivery{
		WebhookID: header["webhook-id"], URL: strings.TrimSuffix(got.URL, "?"+webhook.Encode(got.Data)),
		Method: got.Method, EventType: gen.EventType(header["agentevents-event-type"]),
		Sequence: number("agentevents-sequence"), Epoch: header["agentevents-epoch"], ChangedAt: changed,
		Attempt: int(number("agentevents-attempt")), Test: header["agentevents-test"] != "", Data: got.Data,
		Secrets: []string{secret},
	}, time.Unix(number("webhook-timestamp"), 0), "")
	if err != nil || !reflect.DeepEqual(got, want) {
		shown, _ := json.MarshalIndent(want, "", "  ")
		t.Errorf("%v; the example is not this: %s", err, shown)
	}
}
