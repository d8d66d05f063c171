package lab

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// open opens a receiver that treats requests as a program says.
func open(t *testing.T, program func(*Arrival) Reply) (*Receiver, *Record) {
	t.Helper()
	record := NewRecord(nil)
	r, err := NewReceiver(record, 3, program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, record
}

// post sends a delivery and returns the answer's status, 0 without one.
func post(ctx context.Context, t *testing.T, r *Receiver) (status int, retryAfter string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/1?x=%20", strings.NewReader("agent_id=1"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("agentevents-sequence", "7")
	req.Header.Set("agentevents-attempt", "2")
	req.Header.Set("webhook-id", "msg")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, ""
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

func TestReceiverKeepsWhatArrives(t *testing.T) {
	r, record := open(t, func(*Arrival) Reply { return Reply{Status: 503, RetryAfter: 2, Delay: time.Millisecond} })
	if status, after := post(t.Context(), t, r); status != 503 || after != "2" {
		t.Errorf("the answer is %d, Retry-After %q", status, after)
	}
	if err := r.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := record.Arrivals()
	if len(all) != 1 || record.Count() != 1 {
		t.Fatalf("arrived: %v", all)
	}
	a := all[0]
	if a.Key != (Key{"/1", 7}) || a.Receiver != 3 || a.ID != "msg" || a.Attempt != 2 || a.Status != 503 ||
		a.Request() != "POST /1?x=%20 agent_id=1" || a.Form() != "agent_id=1" {
		t.Errorf("arrived: %+v", a)
	}
}

func TestReceiverHoldsRequestUntilRelease(t *testing.T) {
	for name, want := range map[string]int{"and answers": 204, "and cuts off": 0} {
		t.Run(name, func(t *testing.T) {
			release, arrived := make(chan struct{}), make(chan struct{}, 1)
			r, record := open(t, func(a *Arrival) Reply {
				if !a.Held {
					arrived <- struct{}{}
					return Reply{Hold: release}
				}
				return Reply{Status: want, Cut: want == 0}
			})
			answered := make(chan int)
			go func() {
				status, _ := post(t.Context(), t, r)
				answered <- status
			}()
			<-arrived
			if all := record.Arrivals(); !all[0].Ended.IsZero() {
				t.Error("the request ended while the receiver held it")
			}
			close(release)
			if got := <-answered; got != want {
				t.Errorf("the answer is %d", got)
			}
			if a := record.Arrivals()[0]; a.Cut != (want == 0) || a.Ended.IsZero() {
				t.Errorf("it is %+v", a)
			}
		})
	}
}

// If the sender closes the connection, the record does not say that the receiver cut it off.
func TestReceiverRecordsClosedConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, record := open(t, func(*Arrival) Reply {
		cancel()
		return Reply{Hold: make(chan struct{})}
	})
	if status, _ := post(ctx, t, r); status != 0 {
		t.Errorf("the answer is %d", status)
	}
	if err := r.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := record.Arrivals()[0]; a.Status != 0 || a.Cut || a.Ended.IsZero() {
		t.Errorf("it is %+v", a)
	}
}

func TestReceiverClosesItsPort(t *testing.T) {
	r, record := open(t, nil)
	if err := r.ClosePort(); err != nil {
		t.Fatal(err)
	}
	if status, _ := post(t.Context(), t, r); status != 0 || record.Count() != 0 {
		t.Error("a request has arrived at a closed port")
	}
	if err := r.OpenPort(); err != nil {
		t.Fatal(err)
	}
	if status, _ := post(t.Context(), t, r); status != 200 {
		t.Errorf("afterwards the answer is %d", status)
	}
}
