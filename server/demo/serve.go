package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	ours       = "make run"                  // the application that each run makes in place of the last one
	store      = "sqlite:bin/agentevents.db" // the database that is served
	operatorID = "operator"                  // whose secret each run makes
)

// serve runs the server, to be tried out, until ctx ends.
func serve(ctx context.Context, binary string, stdout, stderr io.Writer) error {
	secret := rand.Text()
	// Whatever else is set may be for another store, or for a key that the next make run does not have.
	server, err := lab.Serve(ctx, binary, stdout, stderr, append(os.Environ(),
		"AGENTEVENTS_DATABASE_URL="+store,
		"AGENTEVENTS_ALLOW_NETWORKS=127.0.0.0/8,::1/128",
		"AGENTEVENTS_OPERATOR_ID="+operatorID,
		"AGENTEVENTS_OPERATOR_SECRET="+secret,
		"AGENTEVENTS_OPERATOR_SECRET_FILE=",
		"AGENTEVENTS_ENCRYPTION_KEY=",
		"AGENTEVENTS_ENCRYPTION_KEY_FILE="))
	if err != nil {
		return err
	}
	s := &story{ctx: ctx, out: io.Discard, tokens: map[string]string{}}
	if s.err = server.Ready(ctx); s.err == nil {
		s.server, s.receiver = server.URL, server.URL+"/healthz" // which answers every GET with 200
	}
	made := s.prepare(secret)
	if s.err != nil {
		return errors.Join(s.err, server.Stop())
	}
	s.printAccess(stdout, secret, made)
	return server.Wait()
}

// prepare makes client 12 with everything that seed makes and an application, and gets tokens.
func (s *story) prepare(secret string) (made gen.ApplicationSecret) {
	s.token("", "OPERATOR", operatorID, secret)
	s.seed()
	const path = "/client/12/application/"
	for _, last := range request[[]gen.Application](s, "", "OPERATOR", "GET", path, "", 200) {
		if last.Name == ours {
			request[any](s, "", "OPERATOR", "DELETE", path+last.ID, "", 204)
		}
	}
	made = request[gen.ApplicationSecret](s, "", "OPERATOR", "POST", path, `{"access":"all","name":"`+ours+`"}`, 201)
	s.token("", "CLIENT", made.ID, made.Secret)
	return made
}

// seed gives client 12, unless an earlier run has made it, what the examples of the document name, so that every list
// has something to show.
func (s *story) seed() {
	s.put("", "/client/12", "{}", "")
	if there := new(lab.StatusError); errors.As(s.err, &there) && there.Status == http.StatusOK {
		s.err = nil
		return
	}
	event := fmt.Sprintf(`{"url":%q,"method":"GET","event_type":"agent-login"}`, s.receiver)
	for i, agent := range []string{local, remote} {
		s.put("", agent, []string{asLocal, asRemote}[i], "")
		request[any](s, "", "OPERATOR", "POST", agent+"/event/", event, 201)
		request[any](s, "", "OPERATOR", "POST", fmt.Sprintf("%s/event/%d/test", agent, i+1), "", 200)
	}
	for _, status := range []string{"available", "logged_out"} {
		const both = `[{"agent_type":"local","agent_id":136,"agent_status":%[1]q},` +
			`{"agent_type":"remote","agent_id":7,"agent_status":%[1]q}]`
		request[any](s, "", "OPERATOR", "PUT", "/client/12/status/", fmt.Sprintf(both, status), 200)
	}
	request[any](s, "", "OPERATOR", "POST", "/client/12/delivery/redeliver", "{}", 202)
}

// printAccess says how to try the server out.
func (s *story) printAccess(w io.Writer, secret string, made gen.ApplicationSecret) {
	fmt.Fprintf(w, `
To try it out, open %[1]s/docs, press Authorize and sign in as one of these applications. "Try it out" and
"Execute" then show something in every list. The operator's application may do everything, the client's may do
everything for client 12.

    application of client 12     id %[2]s  secret %[3]s
    application of the operator  id %[4]s  secret %[5]s

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

`, s.server, made.ID, made.Secret, operatorID, secret, lab.APIPath, s.tokens["OPERATOR"], s.tokens["CLIENT"], store)
}
