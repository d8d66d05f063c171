package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDispatchLanesSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, after(time.Second/2, says(200)))
		for lane := range int64(3) {
			r.add(lane, lane, 100) // receivers of their own
			r.add(9, 10+lane, 100) // one receiver
		}
		r.run().pass(54 * time.Second)
		r.wantOrder()
		r.wantLeft(0, 0)
		if most := slices.MaxFunc(r.arrivals(), func(a, b arrival) int { return a.inAll - b.inAll }).inAll; most != 6 {
			t.Errorf("at most %d requests were in flight, want one in each of 6 lanes", most)
		}
		for _, x := range r.records() {
			if x.Verdict != Delivered || x.void {
				t.Fatalf("recorded %+v", x)
			}
		}
	})
}

func TestDispatchKeepsOrderOverRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := setUp(t, DispatcherOptions{}, func(req *http.Request) (*http.Response, error) {
			if n++; n%3 == 1 {
				return says(503)(req)
			}
			return says(200)(req)
		})
		r.add(1, 1, 10)
		r.run().pass(time.Minute)
		r.wantOrder()
		r.wantLeft(0, 0)
		if len(r.arrivals()) != 15 {
			t.Errorf("%d attempts, want 15", len(r.arrivals()))
		}
	})
}

// A quick receiver has more lanes due than it has slots: the rest follow without a pause.
func TestFreedSlotIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{PerReceiver: 8}, after(15*time.Millisecond, says(200)))
		for lane := range int64(50) {
			r.add(1, lane, 1)
		}
		r.run().pass(time.Minute)
		for lane := range int64(100) {
			r.add(1, lane, 1)
		}
		r.pass(time.Minute)
		r.wantLeft(0, 0)
		if took := r.at()[149] - r.at()[50]; took > pollInterval/2 {
			t.Errorf("100 deliveries, of which 8 take 15 ms, took %v", took)
		}
	})
}

// With one slot and a lane of more than maxInARow deliveries, a lane that became due meanwhile is served before the
// rest.
func TestLaneYieldsAfterMaxInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 1}, says(200))
		r.add(1, 1, 20)
		r.pass(time.Millisecond)
		r.add(2, 2, 1)
		r.pass(time.Millisecond)
		r.add(1, 1, 50)
		r.run().pass(0)
		r.wantLeft(0, 0)
		turn := slices.IndexFunc(r.arrivals(), func(a arrival) bool { return a.lane == "2" })
		if turn != maxInARow {
			t.Errorf("the other lane had its turn after %d deliveries, want %d", turn, maxInARow)
		}
	})
}

func TestDispatchFollowsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(503))
		r.add(1, 1, 1)
		r.run().pass(2 * time.Hour)
		r.setAnswer(says(200))
		r.pass(time.Hour)
		var want []time.Duration
		for _, s := range []int{0, 5, 35, 155, 755, 2555, 6155, 9755} {
			want = append(want, time.Duration(s)*time.Second)
		}
		equal(t, "attempts", r.at(), want)
		r.wantLeft(0, 0)
		for i, a := range r.arrivals() {
			if a.attempt != strconv.Itoa(i+1) || a.id != "msg_1" {
				t.Errorf("attempt %d of %s, want %d of msg_1", i+1, a.id, i+1)
			}
		}
		for i, x := range r.records() {
			if x.Verdict == Retry && x.Delay != r.d.Schedule.Delay(i+1, 0) {
				t.Errorf("attempt %d: recorded a delay of %s", i+1, x.Delay)
			}
		}
	})
}

func TestDispatchDoesWhatRetryAfterAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []answer{says(503, "Retry-After", "2"), says(429, "Retry-After", "120"), says(500), says(200)}
		r := setUp(t, DispatcherOptions{}, nil)
		r.setAnswer(func(req *http.Request) (*http.Response, error) { return answers[len(r.arrivals())-1](req) })
		r.add(1, 1, 1)
		r.run().pass(time.Hour)
		equal(t, "attempts", r.at(), []time.Duration{0, 2 * time.Second, 122 * time.Second, 127 * time.Second})
		r.wantLeft(0, 0)
	})
}

func TestFinalVerdictIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, func(req *http.Request) (*http.Response, error) {
			return says(map[string]int{"1": 404, "2": 410, "3": 301}[lane(req)])(req)
		})
		for lane := range int64(3) {
			r.add(lane, lane+1, 2)
		}
		r.run().pass(time.Hour)
		r.wantLeft(0, 0)
		for _, x := range r.records() {
			if want := map[int64]Verdict{1: Failed, 2: Gone, 3: Failed}[x.Lane]; x.Verdict != want || x.Delay != 0 {
				t.Errorf("lane %d: %s with a delay of %s, want %s", x.Lane, x.Verdict, x.Delay, want)
			}
		}
		if len(r.arrivals()) != 6 {
			t.Errorf("%d attempts, want 6", len(r.arrivals()))
		}
	})
}

// leaseLeft is the time left of the lease of a request's lane.
func (r *rig) leaseLeft(req *http.Request) time.Duration {
	id, _ := strconv.ParseInt(lane(req), 10, 64)
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	return time.Until(r.lanes[id].dueAt)
}

// A claim or a record that takes long leaves less of the lease than an attempt may take.
func TestDispatchDoesNotSendOnAShortLease(t *testing.T) {
	for _, c := range []struct {
		trouble  string
		takes    time.Duration
		releases int
	}{
		{"Claim", 5 * time.Second, 0},
		{"Claim", 5*time.Second + 1, 1},
		{"Record", 5 * time.Second, 0},
		{"Record", 5*time.Second + 1, 1},
	} {
		t.Run(fmt.Sprint(c.trouble, c.takes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setUp(t, DispatcherOptions{}, nil)
				r.setAnswer(func(req *http.Request) (*http.Response, error) {
					if left := r.leaseLeft(req); left < 10*time.Second {
						t.Errorf("sent with %s of the lease left", left)
					}
					return says(200)(req)
				})
				r.add(1, 1, 3)
				r.setTrouble(c.trouble, takes(c.takes))
				r.run().pass(c.takes)
				if n := len(r.calls("Release")); n != c.releases {
					t.Errorf("the lane was released %d times, want %d", n, c.releases)
				}
				r.setTrouble(c.trouble, nil)
				r.pass(time.Minute)
				r.wantLeft(0, 0)
				r.wantFree()
				if len(r.arrivals()) != 3 {
					t.Errorf("%d requests were sent, want 3", len(r.arrivals()))
				}
			})
		})
	}
}

func TestDispatchStopsAtOnceWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(200))
		r.run().pass(time.Minute)
		if took := r.stop(); took != 0 {
			t.Errorf("Run returned after %s", took)
		}
	})
}

func TestDispatchStopFinishesWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, after(3*time.Second, says(200)))
		r.add(1, 1, 2)
		r.run().pass(time.Second)
		r.soft()
		synctest.Wait()
		r.add(2, 2, 1) // too late, as is the second of lane 1
		if took := r.stop(); took != 2*time.Second {
			t.Errorf("Run returned after %s, want 2s", took)
		}
		r.wantLeft(2, 0)
		r.wantFree()
		if n := len(r.calls("Release")); n != 0 {
			t.Errorf("%d releases, want the lane let go with the record", n)
		}
		if n, x := len(r.arrivals()), r.records(); n != 1 || len(x) != 1 || x[0].Verdict != Delivered {
			t.Errorf("%d requests were sent, recorded is %+v; want the one in flight, delivered", n, x)
		}
	})
}

// A store that was asked before the stop may hand out deliveries after it.
func TestDispatchStopReleasesWhatIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(200))
		r.setTrouble("Claim", takes(2*time.Second))
		r.add(1, 1, 1)
		r.run()
		if took := r.stop(); took != 2*time.Second {
			t.Errorf("Run returned after %s, want 2s", took)
		}
		r.wantLeft(1, 0)
		r.wantFree()
		if len(r.arrivals()) != 0 || len(r.calls("Claim")) != 1 || len(r.calls("Release")) != 1 {
			t.Errorf("%d sent, %d claims, %d releases; want 0, 1, 1",
				len(r.arrivals()), len(r.calls("Claim")), len(r.calls("Release")))
		}
	})
}

func TestDispatchStopCutsOffWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, hangs).patient(time.Minute, 2*time.Minute)
		r.add(1, 1, 2)
		r.run().pass(20 * time.Second)
		if took := r.stop(); took != stopGrace {
			t.Errorf("Run returned after %s, want %s", took, stopGrace)
		}
		r.wantLeft(2, 0)
		if x := r.records(); len(x) != 0 {
			t.Errorf("recorded %+v: being cut off is not the receiver's failure", x)
		}
	})
}

// An answer that was complete before the stop counts, whatever its status.
func TestDispatchStopRecordsTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done() // answered before, read after
			return says(503, "Retry-After", "60")(req)
		}).patient(time.Minute, 2*time.Minute)
		r.add(1, 1, 1)
		r.run().pass(time.Second)
		r.stop()
		if x := r.records(); len(x) != 1 || x[0].Status != 503 || x[0].Delay != time.Minute {
			t.Errorf("recorded %+v, want the 503", x)
		}
	})
}

// Run returns in time even if the store fails or hangs, and with attempts in flight.
func TestDispatchStopReturnsInTime(t *testing.T) {
	answers := map[string]answer{
		"quick": after(50*time.Millisecond, says(200)), "late": after(11*time.Second, says(200)), "hanging": hangs,
		"failing": says(503),
	}
	for what, a := range answers {
		for trouble, does := range map[string]func(context.Context) error{"fails": fails, "blocks": blocks} {
			for _, method := range []string{"Claim", "Record", "Release", "RepairLanes", "all"} {
				t.Run(fmt.Sprint(what, method, trouble), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := setUp(t, DispatcherOptions{}, a).patient(time.Minute, 2*time.Minute)
						for lane := range int64(5) {
							r.add(lane, lane, 100)
						}
						r.run()
						for _, m := range []string{"Claim", "Record", "Release", "RepairLanes"} {
							if m == method || method == "all" {
								r.setTrouble(m, does)
							}
						}
						r.pass(time.Second / 2)
						if took := r.stop(); took > 15*time.Second {
							t.Errorf("Run returned after %s", took)
						}
						r.wantFree()
					})
				})
			}
		}
	}
}

func TestDispatchGoesOnAfterClaimsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(200))
		r.setTrouble("Claim", fails)
		r.add(1, 1, 1)
		r.run().pass(time.Minute + time.Second/2)
		if n := len(r.calls("Claim")); n > 70 {
			t.Errorf("%d claims in a minute of trouble", n)
		}
		r.setTrouble("Claim", nil)
		r.pass(pollInterval)
		r.wantLeft(0, 0)
	})
}

func TestRecordIsRetriedWhileTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(200))
		r.setTrouble("Record", fails)
		r.add(1, 1, 1)
		r.run().pass(5 * time.Second)
		r.setTrouble("Record", nil)
		r.pass(time.Hour)
		r.wantLeft(0, 0)
		if len(r.records()) != 1 || len(r.arrivals()) != 1 {
			t.Errorf("%d records of %d requests, want 1 of 1", len(r.records()), len(r.arrivals()))
		}
		if n := len(r.calls("Record")); n < 10 || n > 30 {
			t.Errorf("%d calls of Record in 5 s of trouble", n)
		}
	})
}

// After the lease another process may have the lane: the outcome is dropped, and the delivery is attempted again.
func TestDispatchGivesUpRecordingWithItsLease(t *testing.T) {
	for name, does := range map[string]func(context.Context) error{"fails": fails, "blocks": blocks} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setUp(t, DispatcherOptions{}, after(time.Second, says(200)))
				r.setTrouble("Record", does)
				r.add(1, 1, 1)
				r.run().pass(15*time.Second - 1)
				r.setTrouble("Claim", blocks) // so that no other process takes the lane over
				tried := len(r.calls("Record"))
				r.pass(time.Minute)
				if n := len(r.calls("Record")); n != tried || n == 0 {
					t.Errorf("Record was called %d times within the lease and %d times after", tried, n-tried)
				}
				r.wantFree()
			})
		})
	}
}

func TestDispatchDeliversAgainWhatWasNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, after(time.Second, says(200)))
		r.setTrouble("Record", fails)
		r.add(1, 1, 1)
		r.run().pass(20 * time.Second)
		r.setTrouble("Record", nil)
		r.pass(time.Hour)
		equal(t, "attempts", r.at(), []time.Duration{0, 15 * time.Second})
		r.wantLeft(0, 0)
		if x := r.records(); len(x) != 1 || x[0].void || x[0].Delivery.Attempt != 1 || x[0].Claim != 2 {
			t.Errorf("recorded %+v, want the second request alone", x)
		}
	})
}

func TestDispatchGivesSlotsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 4}, says(200))
		r.setTrouble("commit", fails)
		for lane := range int64(10) {
			r.addUntil(lane, lane, 1, time.Now().Add(30*time.Second)) // over before the trouble is
			r.add(lane, lane, 1)
		}
		r.run().pass(time.Minute)
		r.wantFree()
		r.setTrouble("commit", nil)
		r.pass(pollInterval)
		r.wantLeft(0, 0)
		r.wantFree()
		if len(r.arrivals()) != 10 {
			t.Errorf("%d requests were sent, want 10", len(r.arrivals()))
		}
	})
}

func TestDispatchWakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 2}, after(50*time.Millisecond, says(200)))
		r.run().pass(time.Second / 3)
		r.add(1, 1, 1)
		r.pass(0)
		r.wantLeft(1, 1) // a commit wakes it
		r.pass(time.Second)
		for lane := range int64(4) {
			r.add(10+lane, 10+lane, 1)
		}
		r.pass(200 * time.Millisecond) // a slot that becomes free wakes it too
		r.wantLeft(0, 0)
	})
}

// A slot becomes free between two polls, without a signal of the store.
func TestDispatchWakesWhenASlotIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 1}, says(200))
		r.setTrouble("Record", fails)
		r.add(1, 1, 1)
		r.add(2, 2, 1)
		r.run().pass(15*time.Second - 1)
		equal(t, "attempts", r.at(), []time.Duration{0, 15*time.Second - recordRetryInterval})
	})
}

// A lane that is due a moment later does not wait for the next poll.
func TestDispatchWakesWhenALaneIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := Schedule{Delays: []time.Duration{123 * time.Millisecond}}
		r := setUp(t, DispatcherOptions{Schedule: short}, says(500))
		r.add(1, 1, 1)
		r.run().pass(250 * time.Millisecond)
		equal(t, "attempts", r.at(), []time.Duration{0, 123 * time.Millisecond, 246 * time.Millisecond})
	})
}

func TestClaimsPerHourAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		slots, lanes, receivers int64
		most                    int // claims in an hour
	}{
		"without work":         {1024, 0, 1, 3601},
		"with all slots full":  {1, 100, 100, 1000},
		"with half of them":    {2, 100, 100, 3601 + 4*360},
		"with a full receiver": {1024, 100, 1, 3601 + 800},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setUp(t, DispatcherOptions{Slots: int(c.slots)}, hangs)
				for lane := range c.lanes {
					r.add(lane%c.receivers, lane, 1)
				}
				r.run().pass(time.Hour)
				if n := len(r.calls("Claim")); n > c.most {
					t.Errorf("%d claims in an hour, want at most %d", n, c.most)
				}
			})
		})
	}
}

func TestHeartbeatAdvancesAtEachClaim(t *testing.T) {
	for name, lanes := range map[string]int64{"without work": 0, "with a backlog": 40} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setUp(t, DispatcherOptions{Slots: 8}, after(3*time.Second, says(200)))
				for lane := range lanes {
					r.add(lane, lane, 20)
				}
				r.run()
				for range 400 {
					r.pass(time.Second / 4)
					if age := time.Since(r.d.Heartbeat()); age > pollInterval {
						t.Fatalf("the heartbeat is %s old", age)
					}
				}
				r.setTrouble("Claim", fails)
				r.pass(time.Minute)
				if age := time.Since(r.d.Heartbeat()); age > pollInterval {
					t.Errorf("the heartbeat is %s old while claims fail", age)
				}
				r.setTrouble("Claim", blocks)
				r.pass(time.Minute)
				if age := time.Since(r.d.Heartbeat()); age < time.Minute-pollInterval {
					t.Errorf("the heartbeat is %s old while a claim hangs", age)
				}
			})
		})
	}
}

// With no free slot, the heartbeat still advances.
func TestHeartbeatAdvancesSlowlyWhenAllSlotsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 1}, hangs)
		r.add(1, 1, 1)
		r.run()
		turns := map[time.Time]bool{}
		for range 50 {
			r.pass(100 * time.Millisecond)
			turns[r.d.Heartbeat()] = true
		}
		if len(turns) < 5 || len(turns) > 6 {
			t.Errorf("%d turns in 5 s, want one a second", len(turns))
		}
	})
}

func TestDispatchRepairsLanesEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, says(200))
		r.setTrouble("RepairLanes", fails)
		r.run().pass(150 * time.Second)
		if calls := r.calls("RepairLanes"); len(calls) != 3 || calls[2].Sub(calls[0]) != 2*time.Minute {
			t.Errorf("repaired at %v, want at once and after each minute", calls)
		}
	})
}

// Observe is called before and after every attempt; an attempt that was cut off has no verdict.
func TestDispatchIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		see := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, what)
		}
		r := setUp(t, DispatcherOptions{Observe: func(d *Delivery) func(Outcome) {
			see(fmt.Sprintf("%s, attempt %d", d.WebhookID, d.Attempt))
			d.Traceparent = "00-trace-attempt-01"
			return func(o Outcome) { see(fmt.Sprintf("%q %d, again after %s", o.Verdict, o.Status, o.Delay)) }
		}}, func(req *http.Request) (*http.Response, error) {
			see(req.Header.Get("traceparent"))
			return says(503)(req)
		}).patient(time.Minute, 65*time.Second)
		r.add(1, 1, 1)
		r.run().pass(0)
		r.setAnswer(says(200))
		r.pass(5 * time.Second)
		r.setAnswer(hangs)
		r.add(2, 2, 1)
		r.pass(0)
		r.stop()
		equal(t, "seen", seen, []string{
			"msg_1, attempt 1", "00-trace-attempt-01", `"retry" 503, again after 5s`, "msg_1, attempt 2",
			`"delivered" 200, again after 0s`,
			"msg_2, attempt 1", `"" 0, again after 0s`,
		})
	})
}

// With random failures every delivery arrives, in order, and no lane is leased in the end.
func TestDispatchDeliversInOrderDespiteRandomFailures(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { survive(t, rand.New(rand.NewPCG(seed, seed))) })
		})
	}
}

func survive(t *testing.T, random *rand.Rand) {
	var mu sync.Mutex
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	answers := []answer{says(200), says(200), says(503), says(404), hangs, after(2*time.Second, says(200))}
	o := DispatcherOptions{
		Slots: 1 + draw(20), PerReceiver: 1 + draw(8), Schedule: Schedule{Delays: []time.Duration{time.Second}},
	}
	r := setUp(t, o, func(req *http.Request) (*http.Response, error) { return answers[draw(len(answers))](req) })
	r.run()
	for range 100 {
		id := int64(draw(10))
		r.add(id, 10*id+int64(draw(4)), draw(10))
		method := []string{"Claim", "Record", "Release", "commit"}[draw(4)]
		r.setTrouble(method, []func(context.Context) error{fails, nil, nil}[draw(3)])
		r.pass(time.Duration(draw(3000)) * time.Millisecond)
	}
	for _, method := range []string{"Claim", "Record", "Release", "commit"} {
		r.setTrouble(method, nil)
	}
	r.setAnswer(says(200))
	r.pass(10 * time.Minute)
	r.wantOrder()
	r.wantLeft(0, 0)
	r.wantFree()
	ended := map[int64]int{}
	for _, x := range r.records() {
		if x.Verdict != Retry && !x.void {
			ended[x.ID]++
		}
	}
	for id := range r.last {
		if ended[id+1] != 1 {
			t.Errorf("delivery %d ended %d times", id+1, ended[id+1])
		}
	}
}
