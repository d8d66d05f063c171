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

// Two servers that share a database act as one. Each notifies waiting readers of changes that the other accepted, and
// counts its requests. After one has stopped, the other delivers its changes.
func TestTwoReplicasActAsOne(t *testing.T) {
	pgtest.PostgresOnly(t, "an SQLite file has one server")
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
	both.shareCounts(t)
	both.takeOver(t, r)
	verify(t, store)
}

// A replica without the key by which another replica encrypted the secrets is not ready, and reports the reason.
func TestReplicaWithoutTheKeyIsNotReady(t *testing.T) {
	pgtest.PostgresOnly(t, "an SQLite file has one server")
	t.Parallel()
	url := newStore(t)
	without := serve(t, url)
	without.mayLogErrors = true
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
	contains(t, "reason", string(body), "the encryption key is missing or wrong")
	equal(t, "the replica with the key is ready", with.ready(), true)
}

// notifyEachOther checks that a reader at one replica gets each change that the other checkAccepted, in order.
func (both replicas) notifyEachOther(t *testing.T) {
	t.Helper()
	after := both[0].follow(nil, nil).next()
	for i := range 20 {
		here, there := both[i%2], both[1-i%2]
		got := make(chan string, 1)
		go func() { got <- here.next(after) }()
		created := there.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: toggled[i%2]})
		equal(t, "the next changes", <-got, fmt.Sprint(http.StatusOK, []int64{created.Sequence}))
		after = created.Sequence
	}
}

// next waits for changes, and returns the status and the sequence numbers of the answer.
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

// toggled are the next statuses of an agent that is available.
var toggled = []gen.AgentStatusValue{gen.AgentStatusValueLoggedOut, gen.AgentStatusValueAvailable}

// shareTokens checks that a token of one replica is valid at the other, until its application is revoked there.
func (both replicas) shareTokens(t *testing.T) {
	t.Helper()
	for i, here := range both {
		there := both[1-i]
		created := here.application()
		token, refusal := requestToken(t, here.process, created)
		equal(t, "refusal", refusal, "")
		checkAccepted(t, here.process, token)
		checkAccepted(t, there.process, token)
		revoked, err := there.DeleteApplicationWithResponse(t.Context(), pbxClient, created.ID)
		must(t, http.StatusNoContent, revoked, err)
		checkNoToken(t, here.process, created)
		awaitAnswer(t, here.process, token, http.StatusUnauthorized, "")
		awaitAnswer(t, there.process, token, http.StatusUnauthorized, "")
	}
}

// application creates an application of the client.
func (r replica) application() gen.ApplicationSecret {
	r.t.Helper()
	created, err := r.CreateApplicationWithResponse(r.t.Context(), pbxClient, nil,
		gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	must(r.t, http.StatusCreated, created, err)
	return *created.JSON201
}

// shareCounts checks that each replica counts the requests of both, and refuses those over the limit.
func (both replicas) shareCounts(t *testing.T) {
	t.Helper()
	token, _ := requestToken(t, both[0].process, both[0].application())
	for i, here := range both {
		there := both[1-i]
		before := there.counted()
		eventually(t, "a replica counts the requests of the other", func() bool {
			checkAccepted(t, here.process, token)
			return there.counted() > before
		})
	}
	none := int64(0)
	limit, err := both[0].PutLimitsWithResponse(t.Context(), pbxClient,
		gen.ClientLimitsUpdate{RequestsPerHour: gen.ClientLimitUpdate{Limit: &none}})
	must(t, http.StatusOK, limit, err)
	for _, r := range both {
		awaitAnswer(t, r.process, token, http.StatusTooManyRequests, "rate_limit_exceeded")
	}
}

// counted returns the number of the client's requests in this hour that the replica knows.
func (r replica) counted() int64 {
	r.t.Helper()
	limits, err := r.GetLimitsWithResponse(r.t.Context(), pbxClient)
	must(r.t, http.StatusOK, limits, err)
	return limits.JSON200.RequestsPerHour.Used
}

// takeOver stops the first replica while statuses change at both. Its changes arrive in order, and none twice.
func (both replicas) takeOver(t *testing.T, r *receiver) {
	t.Helper()
	sent := len(r.arrivals())
	var group sync.WaitGroup
	var accepted [4][]int64
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); group.Wait() })
	defer end()
	for i := range accepted {
		group.Go(func() { accepted[i] = both.toggle(int64(i+1), i%2, stop) })
	}
	r.wait(t, sent+100)
	equal(t, "exit code of the first", both[0].stop(t), 0)
	r.wait(t, len(r.arrivals())+100)
	end()
	want := slices.Concat(accepted[:]...)
	slices.Sort(want)
	var missing []int64
	eventually(t, "all changes have arrived", func() bool {
		missing = notArrived(want, r.arrivals()[sent:])
		return len(missing) == 0
	})
	checkOrder(t, r.arrivals())
	equal(t, "exit code of the second", both[1].stop(t), 0)
	t.Logf("%d changes, %d requests", len(want), len(r.arrivals())-sent)
}

// toggle changes an agent's status until stop is closed, and returns the accepted changes. If the first replica does
// not answer, it continues at the second.
func (both replicas) toggle(agent int64, at int, stop <-chan struct{}) (accepted []int64) {
	for n := 0; ; {
		select {
		case <-stop:
			return accepted
		default:
		}
		resp, err := both[at].PutLocalAgentStatusWithResponse(both[at].t.Context(), pbxClient, agent,
			gen.AgentStatusUpdate{AgentStatus: toggled[n%2]})
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

// notArrived returns the changes that have not arrived.
func notArrived(changes []int64, arrivals []lab.Arrival) []int64 {
	arrived := map[int64]bool{}
	for _, a := range arrivals {
		arrived[a.Sequence] = true
	}
	return slices.DeleteFunc(slices.Clone(changes), func(sequence int64) bool { return arrived[sequence] })
}

// checkOrder checks that all deliveries of an agent arrived in order, and none twice.
func checkOrder(t *testing.T, arrivals []lab.Arrival) {
	t.Helper()
	last := map[string]int64{}
	for _, a := range arrivals {
		agent := formValue(a.Form(), "agent_id")
		if a.Sequence <= last[agent] {
			t.Errorf("change %d of agent %s arrived after %d", a.Sequence, agent, last[agent])
		}
		last[agent] = a.Sequence
	}
}

// The backup command refuses PostgreSQL and names pg_dump. The server keeps running.
func TestBackupRefusesPostgres(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has a backup")
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
