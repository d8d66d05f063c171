package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// replicas are two processes that share a database.
type replicas [2]replica

type replica struct {
	*process
	api
}

// Two processes that share a database act as one: the second notifies waiting readers of changes that the first
// accepted, counts its requests, and delivers its changes after it has stopped.
func TestTwoReplicas(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has one server")
	t.Parallel()
	store, r := newStore(t), newReceiver(t)
	var both replicas
	for i := range both {
		p := serve(t, store)
		both[i] = replica{p, newAPI(t, p)}
	}
	both[0].putClient()
	both[0].login(r, 1, 2, 3, 4)
	r.wait(t, 4)
	both.notifyEachOther(t)
	both.shareTokens(t)
	both.countTogether(t)
	both.outlive(t, r)
	verify(t, store)
}

// A replica without the key, with which another replica has encrypted the secrets, is not ready, and says why.
func TestReplicaWithoutTheKeyIsNotReady(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has one server")
	t.Parallel()
	url := newStore(t)
	without := serve(t, url)
	without.troubled = true
	newAPI(t, without).putClient()
	with := serve(t, url, "AGENTEVENTS_ENCRYPTION_KEY="+strings.Repeat("0f", 32))
	read, err := newAPI(t, without).GetSecretWithResponse(t.Context(), pbxClient)
	must(t, http.StatusServiceUnavailable, read, err)
	resp, err := http.Get(without.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "status of /readyz", resp.StatusCode, http.StatusServiceUnavailable)
	contains(t, "why", string(body), "the signing secrets are encrypted")
	equal(t, "the replica with the key is ready", with.ready(), true)
}

// notifyEachOther checks that a reader that waits at one replica gets each change that the other accepts, in order.
func (both replicas) notifyEachOther(t *testing.T) {
	t.Helper()
	after := both[0].follow(nil, nil).next()
	for i := range 20 {
		here, there := both[i%2], both[1-i%2]
		got := make(chan string, 1)
		go func() { got <- here.next(after) }()
		made := there.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: turns[i%2]})
		equal(t, "the next changes", <-got, fmt.Sprint(http.StatusOK, []int64{made.Sequence}))
		after = made.Sequence
	}
}

// next waits for changes, and says which come.
func (r replica) next(after int64) string {
	wait := 30
	resp, err := r.ListStatusChangesWithResponse(r.t.Context(), pbxClient,
		&gen.ListStatusChangesParams{After: &after, Wait: &wait})
	if err != nil || resp.JSON200 == nil {
		return fmt.Sprint(err, resp)
	}
	var sequences []int64
	for _, c := range *resp.JSON200 {
		sequences = append(sequences, c.Sequence)
	}
	return fmt.Sprint(resp.StatusCode(), sequences)
}

// turns are the next statuses of an agent that is available.
var turns = []gen.AgentStatusValue{gen.AgentStatusValueLoggedOut, gen.AgentStatusValueAvailable}

// shareTokens checks that a token of one replica is valid at the other, until its application is revoked there.
func (both replicas) shareTokens(t *testing.T) {
	t.Helper()
	for i, here := range both {
		there := both[1-i]
		made := here.application()
		token, refusal := tokenOf(t, here.process, made)
		equal(t, "refusal", refusal, "")
		accepts(t, here.process, token)
		accepts(t, there.process, token)
		revoked, err := there.DeleteApplicationWithResponse(t.Context(), pbxClient, made.ID)
		must(t, http.StatusNoContent, revoked, err)
		getsNoToken(t, here.process, made)
		eventuallyAnswers(t, here.process, token, http.StatusUnauthorized, "")
		eventuallyAnswers(t, there.process, token, http.StatusUnauthorized, "")
	}
}

// application makes one of the client's.
func (r replica) application() gen.ApplicationSecret {
	r.t.Helper()
	made, err := r.CreateApplicationWithResponse(r.t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(r.t, http.StatusCreated, made, err)
	return *made.JSON201
}

// countTogether checks that each replica counts the requests of both, and refuses those over the limit.
func (both replicas) countTogether(t *testing.T) {
	t.Helper()
	token, _ := tokenOf(t, both[0].process, both[0].application())
	for i, here := range both {
		there := both[1-i]
		before := there.counted()
		eventually(t, "one counts the requests of the other", func() bool {
			accepts(t, here.process, token)
			return there.counted() > before
		})
	}
	none := int64(0)
	limit, err := both[0].PutLimitsWithResponse(t.Context(), pbxClient,
		gen.ClientLimitsUpdate{RequestsPerHour: gen.ClientLimitUpdate{Limit: &none}})
	must(t, http.StatusOK, limit, err)
	for _, r := range both {
		eventuallyAnswers(t, r.process, token, http.StatusTooManyRequests, "rate_limit_exceeded")
	}
}

// counted are the requests of the client in this hour, as far as a replica knows.
func (r replica) counted() int64 {
	r.t.Helper()
	limits, err := r.GetLimitsWithResponse(r.t.Context(), pbxClient)
	must(r.t, http.StatusOK, limits, err)
	return limits.JSON200.RequestsPerHour.Used
}

// outlive stops the first replica while statuses change at both. Its changes arrive in order, and none twice.
func (both replicas) outlive(t *testing.T, r *receiver) {
	t.Helper()
	sent := len(r.arrivals())
	var group sync.WaitGroup
	var accepted [4][]int64
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); group.Wait() })
	defer end()
	for i := range accepted {
		group.Go(func() { accepted[i] = both.flip(int64(i+1), i%2, stop) })
	}
	r.wait(t, sent+100)
	equal(t, "exit code of the first", both[0].stop(t), 0)
	r.wait(t, len(r.arrivals())+100)
	end()
	want := slices.Concat(accepted[:]...)
	slices.Sort(want)
	var missing []int64
	eventually(t, "all has arrived", func() bool {
		missing = notArrived(want, r.arrivals()[sent:])
		return len(missing) == 0
	})
	inOrder(t, r.arrivals())
	equal(t, "exit code of the second", both[1].stop(t), 0)
	t.Logf("%d changes, %d requests", len(want), len(r.arrivals())-sent)
}

// flip changes an agent's status until stop is closed, and returns the changes that were accepted. When the first
// replica does not answer, it continues at the second.
func (both replicas) flip(agent int64, at int, stop <-chan struct{}) (accepted []int64) {
	for n := 0; ; {
		select {
		case <-stop:
			return accepted
		default:
		}
		resp, err := both[at].PutLocalAgentStatusWithResponse(both[at].t.Context(), pbxClient, agent,
			gen.AgentStatusUpdate{AgentStatus: turns[n%2]})
		switch {
		case err == nil && resp.StatusCode() == http.StatusOK:
			accepted = append(accepted, resp.JSON200.Sequence)
			n++
		case at == 0:
			at = 1
		case err == nil:
			both[at].t.Errorf("agent %d at the second: %d %s", agent, resp.StatusCode(), resp.Body)
			return accepted
		default:
			both[at].t.Errorf("agent %d at the second: %v", agent, err)
			return accepted
		}
	}
}

// notArrived are the changes that have not arrived.
func notArrived(changes []int64, arrivals []lab.Arrival) []int64 {
	arrived := map[int64]bool{}
	for _, a := range arrivals {
		arrived[a.Sequence] = true
	}
	return slices.DeleteFunc(slices.Clone(changes), func(sequence int64) bool { return arrived[sequence] })
}

// inOrder checks that all deliveries of an agent came in order, and none twice.
func inOrder(t *testing.T, arrivals []lab.Arrival) {
	t.Helper()
	last := map[string]int64{}
	for _, a := range arrivals {
		agent := formValue(a.Form(), "agent_id")
		if a.Sequence <= last[agent] {
			t.Errorf("change %d of agent %s came after %d", a.Sequence, agent, last[agent])
		}
		last[agent] = a.Sequence
	}
}

// The backup command refuses PostgreSQL and names pg_dump; the server keeps serving.
func TestNoBackupOfPostgres(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has a backup")
	t.Parallel()
	store, to := newStore(t), newFile(t)
	p := serve(t, store)
	stdout, stderr, code := command(t, databaseAt(store), "backup", "--to", to)
	if _, err := os.Stat(to); code != 1 || stdout != "" || !strings.Contains(stderr, "pg_dump") || err == nil {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	newAPI(t, p).putClient()
	equal(t, "exit code", p.stop(t), 0)
}
