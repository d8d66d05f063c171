package webhook

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

func benchedDelivery() Delivery {
	return Delivery{
		ID: 1, WebhookID: "msg_0123456789", URL: "https://example.com/hook?key=a", Method: gen.RequestMethodPOST,
		EventType: gen.EventTypeAgentLogin, Sequence: 123456, Epoch: "9f86d081884c7d65", ChangedAt: time.Now(),
		Attempt: 1, Lease: time.Now().Add(time.Hour),
		Data: gen.AgentEventData{
			AgentStatus: gen.AgentStatusValueAvailable, AgentType: gen.AgentTypeLocal, EventSource: "api",
			AgentID: "136", ExtensionName: "Jane Doe",
		},
		Secrets: []string{NewSecret()},
	}
}

func BenchmarkNewRequest(b *testing.B) {
	d, at := benchedDelivery(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewRequest(b.Context(), d, "agentevents/1", at); err != nil {
			b.Fatal(err)
		}
	}
}

// An attempt without the network.
func BenchmarkDeliver(b *testing.B) {
	d := NewDispatcher(DispatcherOptions{
		Outbox: forgetful{}, Sender: NewSender(SenderOptions{Transport: instant{}}), Log: slog.New(slog.DiscardHandler),
	})
	x := benchedDelivery()
	b.ReportAllocs()
	for b.Loop() {
		d.deliver(b.Context(), b.Context(), x, false)
	}
}

func BenchmarkSend(b *testing.B) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Cleanup(receiver.Close)
	s := NewSender(SenderOptions{Guard: guardOf("127.0.0.0/8", "::1/128")})
	b.Cleanup(s.Close)
	x := benchedDelivery()
	x.URL = receiver.URL
	b.ReportAllocs()
	for b.Loop() {
		if a := s.Send(b.Context(), x); a.Verdict != Delivered {
			b.Fatal(a.Error)
		}
	}
}

// instant is a transport that has the answer.
type instant struct{}

func (instant) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil)), Request: r,
	}, nil
}

// forgetful is an outbox without deliveries that stores nothing.
type forgetful struct{ Outbox }

func (forgetful) Record(context.Context, Delivery, Outcome, bool) (*Delivery, error) { return nil, nil }

// A check of the address before a dial, which is made twice.
func BenchmarkGuardControl(b *testing.B) {
	g := NewGuard(GuardOptions{OwnPorts: []uint16{443}})
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Control("tcp4", "93.184.216.34:443", nil); err != nil {
			b.Fatal(err)
		}
	}
}
