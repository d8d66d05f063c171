package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

// ours is the name of the application that each run makes in place of the last one.
const ours = "make run"

// access is what to try the server out with.
type access struct {
	operatorID, operatorSecret, operator string // the last is a token
	gen.ApplicationSecret                       // the client's
	tenant                               string // a token
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

// prepare makes client 12 with all that seed makes and an application, and gets tokens.
func (a *access) prepare(ctx context.Context, server string) (err error) {
	if a.operator, err = lab.Token(http.DefaultClient, server, a.operatorID, a.operatorSecret); err != nil {
		return err
	}
	api, err := client.NewClientWithResponses(server+lab.APIPath, authorized(a.operator))
	if err != nil {
		return err
	}
	if err := makeClient(ctx, api, server); err != nil {
		return err
	}
	if err := tidy(ctx, api); err != nil {
		return err
	}
	made, err := api.CreateApplicationWithResponse(ctx, pbxClient, nil,
		gen.ApplicationCreate{Name: ours, Access: gen.AccessLevelAll})
	if err := lab.Answered(http.StatusCreated, made, err); err != nil {
		return err
	}
	a.ApplicationSecret = *made.JSON201
	a.tenant, err = lab.Token(http.DefaultClient, server, a.ID, a.Secret)
	return err
}

// makeClient leaves a client as it is that an earlier run made.
func makeClient(ctx context.Context, api *client.ClientWithResponses, server string) error {
	resp, err := api.PutClientWithResponse(ctx, pbxClient, gen.ClientUpdate{})
	if err == nil && resp.StatusCode() == http.StatusOK {
		return nil
	}
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return seed(ctx, api, server+"/healthz")
}

// tidy revokes the application of the last run.
func tidy(ctx context.Context, api *client.ClientWithResponses) error {
	all, err := api.ListApplicationsWithResponse(ctx, pbxClient)
	if err := lab.Answered(http.StatusOK, all, err); err != nil {
		return err
	}
	for _, old := range *all.JSON200 {
		if old.Name != ours {
			continue
		}
		resp, err := api.DeleteApplicationWithResponse(ctx, pbxClient, old.ID)
		if err := lab.Answered(http.StatusNoContent, resp, err); err != nil {
			return err
		}
	}
	return nil
}

func (a *access) print(w io.Writer, server string) {
	fmt.Fprintf(w, `
To try it out, open %[1]s/docs, press Authorize and sign in as one of these. Then "Try it out" and "Execute" show
something in every list. The operator may do everything. The tenant is an application of client 12, of access all.

    tenant    id %[2]s  secret %[3]s
    operator  id %[4]s  secret %[5]s

Client 12 has local agent 136 with event 1 and remote agent 7 with event 2. The receiver of both events is /healthz of
this server.

Or in another terminal. The tokens are valid for an hour, and until the next make run, which makes others.

    server=%[1]s
    api=$server%[6]s
    operator=%[7]s
    tenant=%[8]s
    export AGENTEVENTS_DATABASE_URL=%[9]s
    curl -H "Authorization: Bearer $operator" $api/client/
    curl -H "Authorization: Bearer $tenant" $api/client/@me

A new token for the tenant, and for the operator:

    curl $api/oauth/token -d grant_type=client_credentials -d client_id=%[2]s -d client_secret=%[3]s
    curl $api/oauth/token -d grant_type=client_credentials -d client_id=%[4]s -d client_secret=%[5]s

`, server, a.ID, a.Secret, a.operatorID, a.operatorSecret, lab.APIPath, a.operator, a.tenant, store)
}

// store is the database that is served.
const store = "sqlite:bin/agentevents.db"

// environment are the settings to try the server out with, whatever others the environment has: those may be for another
// store, or for a key that the next make run does not have.
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
