package main

import (
	"context"
	"time"
)

// answerTime is how long the receivers take for an answer where somebody says what they answer.
const answerTime = 5 * time.Millisecond

// patience is how long nothing at all may come of what is left over at the end of a round.
const patience = 2 * time.Minute

// remote is the process of the receivers, as seen from here.
type remote struct{ *process }

// startReceivers starts a process without receivers.
func startReceivers(ctx context.Context) (*remote, error) {
	p, err := startProcess(ctx, receiversRole)
	return &remote{p}, err
}

func (r *remote) open(n int) (urls []string, err error) {
	err = r.rpc.Call("Receivers.Open", n, &urls)
	return urls, err
}

// answer makes the receivers answer a client with a status, or not at all when that is 0.
func (r *remote) answer(client string, status int) error {
	return r.rpc.Call("Receivers.Behave", Behaviour{Client: client, Status: status, After: answerTime}, nil)
}

// behave makes them answer with a status and at once.
func (r *remote) behave(client string, status int) error {
	return r.rpc.Call("Receivers.Behave", Behaviour{Client: client, Status: status}, nil)
}

func (r *remote) take() (h Harvest, err error) {
	err = r.rpc.Call("Receivers.Take", struct{}{}, &h)
	return h, err
}

// confirmed waits until so many requests of a client were answered with a 2xx since the last harvest, and tells how many
// there are so far. That they never are is no error, but found by whoever looks at what arrived.
func (r *remote) confirmed(ctx context.Context, client string, want int, tell ...func(n int)) error {
	news := time.Now()
	for before := 0; time.Since(news) < patience; {
		n := 0
		if err := r.rpc.Call("Receivers.Count", client, &n); err != nil || n >= want {
			return err
		}
		if n > before {
			before, news = n, time.Now()
		}
		for _, fn := range tell {
			fn(n)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return nil
		}
	}
	return nil
}

// sleep says whether it was left to finish.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
