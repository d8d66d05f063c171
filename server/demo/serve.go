package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// ours is the name of the application that each run makes in place of the last one.
const ours = "make run"

// store is the database that is served.
const store = "sqlite:bin/agentevents.db"

// access is what to try the server out with.
type access struct {
	operatorID, operatorSecret, operator string // the last is a token
	gen.ApplicationSecret                       // the client's
	client                               string // a token
}

// serve runs the server, to be tried out, until ctx ends.
func serve(ctx context.Context, binary string, stdout, stderr io.Writer) error {
	a := access{operatorID: "operator", operatorSecret: rand.Text()}
	s, err := lab.Serve(ctx, binary, stdout, stderr, a.environment()...)
	if err != nil {
		return err
	}
	if err = s.Ready(ctx); err == nil {
		err = a.prepare(ctx, s.URL)
	}
	if err != nil {
		return errors.Join(err, s.Stop())
	}
	a.print(stdout, s.URL)
	return s.Wait()
}

// RoundTrip makes a request as the operator.
func (a *access) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.operator)
	return http.DefaultTransport.RoundTrip(r)
}

// prepare makes client 12 with everything that seed makes and an application, and gets tokens.
func (a *access) prepare(ctx context.Context, server string) (err error) {
	if a.operator, err = lab.Token(http.DefaultClient, server, a.operatorID, a.operatorSecret); err != nil {
		return err
	}
	pbx, api := &http.Client{Transport: a}, server+lab.APIPath
	if err := seed(ctx, pbx, api, server+"/healthz"); err != nil {
		return err
	}
	applications := api + "/client/12/application/"
	all, err := lab.Call[[]gen.Application](ctx, pbx, 200, http.MethodGet, applications, nil)
	if err != nil {
		return err
	}
	for _, last := range all {
		if last.Name != ours {
			continue
		}
		if _, err := lab.Call[any](ctx, pbx, 204, http.MethodDelete, applications+last.ID, nil); err != nil {
			return err
		}
	}
	this := gen.ApplicationCreate{Name: ours, Access: gen.AccessLevelAll}
	a.ApplicationSecret, err = lab.Call[gen.ApplicationSecret](ctx, pbx, 201, http.MethodPost, applications, this)
	if err == nil {
		a.client, err = lab.Token(http.DefaultClient, server, a.ID, a.Secret)
	}
	return err
}

// seed gives client 12, unless an earlier run has made it, what the examples of the document name, so that every list
// has something to show. The receiver answers every GET with 200.
func seed(ctx context.Context, pbx lab.Doer, api, receiver string) error {
	_, err := lab.Call[any](ctx, pbx, 201, http.MethodPut, api+"/client/12", gen.ClientUpdate{})
	if there := new(lab.StatusError); errors.As(err, &there) && there.Status == 200 {
		return nil
	}
	e := gen.AgentEventCreate{URL: receiver, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
	both := func(status gen.AgentStatusValue) any {
		return gen.PutStatusesJSONRequestBody{
			{AgentType: gen.AgentTypeLocal, AgentID: 136, AgentStatus: status},
			{AgentType: gen.AgentTypeRemote, AgentID: 7, AgentStatus: status},
		}
	}
	for _, r := range []struct {
		want         int
		method, path string
		body         any
	}{
		{201, http.MethodPut, local, gen.LocalAgentUpdate{ExtensionName: new("000*094@ringme.ru")}},
		{201, http.MethodPost, local + "/event/", e},
		{200, http.MethodPost, local + "/event/1/test", nil},
		{201, http.MethodPut, remote, gen.RemoteAgentUpdate{AgentNumber: new("+7 (812) 336-42-42")}},
		{201, http.MethodPost, remote + "/event/", e},
		{200, http.MethodPost, remote + "/event/2/test", nil},
		{200, http.MethodPut, "/client/12/status/", both(gen.AgentStatusValueAvailable)},
		{200, http.MethodPut, "/client/12/status/", both(gen.AgentStatusValueLoggedOut)},
		{202, http.MethodPost, "/client/12/delivery/redeliver", gen.ReplayFilter{}},
	} {
		if err == nil {
			_, err = lab.Call[any](ctx, pbx, r.want, r.method, api+r.path, r.body)
		}
	}
	return err
}

func (a *access) print(w io.Writer, server string) {
	fmt.Fprintf(w, `
To try it out, open %[1]s/docs, press Authorize and sign in as one of these applications. "Try it out" and
"Execute" then show something in every list. The operator's application may do everything, the client's may do
everything for client 12.

    client    id %[2]s  secret %[3]s
    operator  id %[4]s  secret %[5]s

Client 12 has local agent 136 with event 1 and remote agent 7 with event 2. The receiver of both events is /healthz of
this server.

Or use curl in another terminal. The tokens are valid for an hour, and until the next make run.

    server=%[1]s
    api=$server%[6]s
    operator=%[7]s
    client=%[8]s
    application_id=%[2]s
    application_secret=%[3]s
    export AGENTEVENTS_DATABASE_URL=%[9]s
    curl -H "Authorization: Bearer $operator" $api/client/
    curl -H "Authorization: Bearer $client" $api/client/@me

A new token for the client, and for the operator:

    curl $api/oauth/token -d grant_type=client_credentials -d client_id=%[2]s -d client_secret=%[3]s
    curl $api/oauth/token -d grant_type=client_credentials -d client_id=%[4]s -d client_secret=%[5]s

`, server, a.ID, a.Secret, a.operatorID, a.operatorSecret, lab.APIPath, a.operator, a.client, store)
}

// environment are the settings to try the server out with, whatever others the environment has: those may be for
// another store, or for a key that the next make run does not have.
func (a *access) environment() []string {
	return []string{
		"AGENTEVENTS_DATABASE_URL=" + store,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8,::1/128",
		"AGENTEVENTS_OPERATOR_ID=" + a.operatorID,
		"AGENTEVENTS_OPERATOR_SECRET=" + a.operatorSecret,
		"AGENTEVENTS_OPERATOR_SECRET_FILE=",
		"AGENTEVENTS_ENCRYPTION_KEY=",
		"AGENTEVENTS_ENCRYPTION_KEY_FILE=",
	}
}
