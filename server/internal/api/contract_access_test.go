package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/store"
)

// An admission is an application that every world has, with a token.
type admission struct {
	token, client string
	access        gen.AccessLevel
	expired       bool
}

// What every world's requests may be made with; those that say nothing are the operator's.
var (
	asOperator = admission{token: "OPERATOR", access: store.Operator}
	asAll      = admission{token: "ALL", client: "12", access: gen.AccessLevelAll}
	asCallAPI  = admission{token: "CALLAPI", client: "12", access: gen.AccessLevelCallAPI}
	asReadOnly = admission{token: "READONLY", client: "12", access: gen.AccessLevelReadOnly}
	asStranger = admission{token: "STRANGER", client: "13", access: gen.AccessLevelAll}
	asExpired  = admission{token: "EXPIRED", access: store.Operator, expired: true}

	admissions = []admission{asOperator, asAll, asCallAPI, asReadOnly, asStranger, asExpired}
)

func (a admission) id() string { return fmt.Sprintf("%032x", a.token)[:32] }

// hash is what is stored of the application's secret, which is its id.
func (a admission) hash() []byte {
	hash := hmac.New(sha256.New, []byte("key"))
	hash.Write([]byte(a.id()))
	return hash.Sum(nil)
}

// form is what its token is asked for with.
func (a admission) form() string {
	return credentials(gen.ApplicationSecret{ID: a.id(), Secret: a.id()}).Encode()
}

// header is what a request has that is made with the admission.
func (a admission) header() map[string]string {
	return map[string]string{"Authorization": "Bearer " + a.token}
}

// admit makes the applications of all admissions, past the API.
func (w *world) admit(db querier) {
	w.Helper()
	var applications, tokens []any
	for i, a := range admissions {
		expires := int64(9e15)
		if a.expired {
			expires = 1
		}
		hash := sha256.Sum256([]byte(a.token))
		applications = append(applications, a.id(), a.client, strings.ToLower(a.token), a.access, []byte("key"), a.hash())
		tokens = append(tokens, hash[:], i+1, expires)
	}
	w.execOn(db, "INSERT INTO applications (id, client_id, name, access, hash_key, hash, created_at) VALUES "+
		values("(?, ?, ?, ?, ?, ?, 0)", len(admissions)), applications...)
	w.execOn(db, "INSERT INTO tokens (hash, application, expires_at) VALUES "+values("(?, ?, ?)", len(admissions)), tokens...)
}

// values are those of several rows in a statement.
func values(row string, rows int) string {
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// accessScenarios are requests of an operation that are refused for who makes them, or not.
func accessScenarios(e *endpoint, s scenario) (all []scenario) {
	with := func(name string, header map[string]string) {
		all = append(all, s.refused(name, http.StatusUnauthorized, nil, func(s *scenario) {
			s.header, s.want = header, `{"message":"Unauthorized"}`
			s.answer = map[string]string{"WWW-Authenticate": "Bearer"}
		}))
	}
	with("without a token", map[string]string{"Authorization": ""})
	with("with an empty token", map[string]string{"Authorization": "Bearer "})
	with("with a token that nobody has", map[string]string{"Authorization": "Bearer OPERATORS"})
	with("with a token of another scheme", map[string]string{"Authorization": "Basic OPERATOR"})
	with("with an expired token", asExpired.header())
	all = append(all, s.but("with a scheme in another case", func(s *scenario) {
		s.header = map[string]string{"authorization": "bEARER  OPERATOR "}
	}))
	for _, a := range []admission{asAll, asCallAPI, asReadOnly, asStranger} {
		all = append(all, accessScenario(e, s, a))
	}
	if e.operation.Responses.Value("429") != nil {
		all = append(all, limitScenario(e, s))
	}
	return all
}

// accessScenario says what openapi.yaml says of an access.
func accessScenario(e *endpoint, s scenario, a admission) scenario {
	least := gen.AccessLevel(fmt.Sprint(e.operation.Extensions["x-access"]))
	rank := map[gen.AccessLevel]int{
		gen.AccessLevelReadOnly: 1, gen.AccessLevelCallAPI: 2, gen.AccessLevelAll: 3, store.Operator: 4,
	}
	foreign := a.client != "12" && strings.Contains(e.path, "{client_id}")
	want := ""
	switch {
	case least == store.Operator || foreign:
		want = `{"message":"access denied","status":"access_denied"}`
	case rank[a.access] < rank[least] && a.access == gen.AccessLevelReadOnly:
		want = `{"message":"the application may only read","status":"user_access_type_deny"}`
	case rank[a.access] < rank[least]:
		want = `{"message":"the application has access call_api, and this takes all","status":"app_access_type_deny"}`
	}
	name := fmt.Sprintf("with access %s of client %s", a.access, a.client)
	if want == "" {
		return s.but(name, func(s *scenario) { s.header, s.want = a.header(), "" })
	}
	return s.refused(name, http.StatusForbidden, nil, func(s *scenario) { s.header, s.want = a.header(), want })
}

const noFormType = `{"error":"invalid_request","error_description":"the Content-Type must be application/x-www-form-urlencoded",` +
	`"message":"the Content-Type must be application/x-www-form-urlencoded"}`

func accessTable() []scenario {
	id, unknown := asAll.id(), strings.Repeat("0", 32)
	mine := `{"id":"` + id + `","name":"all","access":"all","created_at":"1970-01-01T00:00:00.000Z"}`
	notFound := `{"message":"there is no application ` + unknown + ` of client 12","status":"application_not_found"}`
	return []scenario{
		{
			name: "no token after too many failures", op: "requestToken", request: "POST /oauth/token",
			given: func(w *world) { w.failures(asStranger.id()) },
			body:  strings.Replace(asStranger.form(), "client_secret=", "client_secret=0", 1), header: formType, status: 429,
			want: `{"error":"rate_limit_exceeded","error_description":"too many failed attempts, wait a little",` +
				`"message":"too many failed attempts, wait a little"}`,
			answer: map[string]string{"Retry-After": "6"},
		}, {
			name: "but with the right secret", op: "requestToken", request: "POST /oauth/token", body: asStranger.form(),
			header: formType, status: 200,
		}, {
			name: "token", op: "requestToken", request: "POST /oauth/token", body: asAll.form(), header: formType, status: 200,
		}, {
			name: "no token for what is no secret", op: "requestToken", request: "POST /oauth/token", body: strings.Replace(asAll.form(), "client_secret=", "client_secret=0", 1),
			header: formType, status: 400, want: invalidClient,
		}, {
			name: "no token for a body too long", op: "requestToken", request: "POST /oauth/token",
			body: strings.Repeat("x", auth.MaxTokenBody+1), header: formType, status: 413,
		}, {
			name: "no token for JSON", op: "requestToken", request: "POST /oauth/token", body: `{"grant_type":"client_credentials"}`,
			header: map[string]string{"Authorization": ""}, status: 415, want: noFormType,
		}, {
			name: "no token for a text", op: "requestToken", request: "POST /oauth/token", body: asAll.form(),
			header: map[string]string{"Authorization": "", "Content-Type": "text/plain"}, status: 415, want: noFormType,
		}, {
			name: "no token for a compressed form", op: "requestToken", request: "POST /oauth/token", body: asAll.form(),
			header: map[string]string{"Authorization": "", "Content-Type": formType["Content-Type"], "Content-Encoding": "gzip"}, status: 415,
			want: `{"error":"invalid_request","error_description":"the body must not be compressed; the only Content-Encoding is identity",` +
				`"message":"the body must not be compressed; the only Content-Encoding is identity"}`,
			answer: map[string]string{"Accept-Encoding": "identity"},
		}, {
			name: "who am I: an operator", op: "getUser", request: "GET /user", status: 200,
			want: `{"id":1,"login":"operator","client_id":null,"dealer_id":null,"admin":true,"access":"full",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "who am I: a client's", op: "getUser", request: "GET /user/", status: 200, header: asCallAPI.header(),
			want: `{"id":3,"login":"callapi","client_id":12,"dealer_id":null,"admin":false,"access":"full",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "who am I: one that only reads", op: "getUser", request: "GET /user/", status: 200, header: asReadOnly.header(),
			want: `{"id":4,"login":"readonly","client_id":12,"dealer_id":null,"admin":false,"access":"read_only",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "list of a client alone", op: "listApplications", given: (*world).withClient, request: "GET /client/12/application/",
			status: 200, want: "[" + mine + "," + applicationJSON(asCallAPI) + "," + applicationJSON(asReadOnly) + "]",
		}, {
			name: "create", op: "createApplication", given: (*world).withClient, request: "POST /client/12/application/",
			body: `{"name":"CRM","access":"call_api"}`, status: 201, then: (*world).newApplicationWorks,
		}, {
			name: "no more than a hundred", op: "createApplication", request: "POST /client/12/application/",
			given: func(w *world) {
				w.withClient()
				for i := range 97 {
					w.exec("INSERT INTO applications (id, client_id, name, access, hash_key, hash, created_at) "+
						"VALUES (?, '12', 'x', 'all', ?, ?, 0)", fmt.Sprintf("%032d", i), []byte{}, []byte{})
				}
			},
			body: `{"name":"CRM","access":"all"}`, status: 409,
			want: `{"message":"client 12 has 100 applications, which is the most","status":"application_limit_exceeded"}`,
		}, {
			name: "no access that there is not", op: "createApplication", given: (*world).withClient,
			request: "POST /client/12/application/", body: `{"name":"CRM","access":"operator"}`, status: 400, wrong: []string{"access"},
		}, {
			name: "no name and no access", op: "createApplication", given: (*world).withClient,
			request: "POST /client/12/application/", body: `{}`, status: 400, wrong: []string{"name", "access"},
		}, {
			name: "no empty name and nothing else", op: "createApplication", given: (*world).withClient,
			request: "POST /client/12/application/", body: `{"name":"","access":"all","secret":"x"}`, status: 400,
			wrong: []string{"name", "secret"},
		}, {
			name: "get", op: "getApplication", given: (*world).withClient, request: "GET /client/12/application/" + id,
			status: 200, want: mine,
		}, {
			name: "get one of another client", op: "getApplication", given: (*world).withClient, status: 404,
			request: "GET /client/12/application/" + asStranger.id(),
			want:    `{"message":"there is no application ` + asStranger.id() + ` of client 12","status":"application_not_found"}`,
		}, {
			name: "get one of the operator", op: "getApplication", given: (*world).withClient, status: 404,
			request: "GET /client/12/application/" + asOperator.id(),
		}, {
			name: "get none", op: "getApplication", given: (*world).withClient, status: 404,
			request: "GET /client/12/application/" + unknown, want: notFound,
		}, {
			name: "revoke", op: "deleteApplication", given: (*world).withClient, status: 204,
			request: "DELETE /client/12/application/" + asCallAPI.id(), then: func(w *world) {
				if a := w.send(scenario{request: "GET /user/", header: asCallAPI.header()}); a.status != http.StatusUnauthorized {
					w.Errorf("its token is answered %d", a.status)
				}
			},
		}, {
			name: "revoke one of another client", op: "deleteApplication", given: (*world).withClient, status: 404,
			request: "DELETE /client/12/application/" + asStranger.id(),
		}, {
			name: "revoke none", op: "deleteApplication", given: (*world).withClient, status: 404,
			request: "DELETE /client/12/application/" + unknown, want: notFound,
		}, {
			name: "a client that is blocked", op: "getUser", given: (*world).withBlocked, request: "GET /user/", status: 403,
			header: asAll.header(), want: `{"message":"the client is blocked","status":"user_blocked"}`,
		}, {
			name: "another one's is not told who is blocked", op: "getClient", given: (*world).withBlocked, request: "GET /client/12",
			status: 403, header: asStranger.header(), want: `{"message":"access denied","status":"access_denied"}`,
		}, {
			name: "a client that is unblocked", op: "putClient", given: (*world).withBlocked, request: "PUT /client/12",
			body: `{"blocked":false}`, status: 200, want: `{"id":"12","name":"Ringme","blocked":false}`, then: func(w *world) {
				if a := w.send(scenario{request: "GET /user/", header: asAll.header()}); a.status != http.StatusOK {
					w.Errorf("its token is answered %d %s", a.status, a.body)
				}
			},
		},
	}
}

func applicationJSON(a admission) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"access":%q,"created_at":"1970-01-01T00:00:00.000Z"}`,
		a.id(), strings.ToLower(a.token), a.access)
}

func (w *world) withBlocked() {
	w.withClient()
	_, _, err := w.store.PutClient(w.Context(), "12", gen.ClientUpdate{Blocked: new(true)})
	w.must(err)
}

// Who was revoked or blocked while a request was on its way, or waited, is refused in the end.
func TestContractRefusesInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withEvents()
	body, rest := io.Pipe()
	answered := make(chan *http.Response, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.server.URL+w.base+"/client/12/agent/local/136/status", body)
		if err == nil {
			r.Header.Set("Authorization", "Bearer "+asAll.token)
			r.Header.Set("Content-Type", "application/json")
			var a *http.Response
			if a, err = w.server.Client().Do(r); err == nil {
				_ = a.Body.Close()
				answered <- a
				return
			}
		}
		t.Error(err)
		close(answered)
	}()
	_, err := io.WriteString(rest, `{"agent_status":`)
	w.must(err)
	w.must(w.store.DeleteApplication(t.Context(), "12", asAll.id()))
	_, err = io.WriteString(rest, `"available"}`)
	w.must(err)
	w.must(rest.Close())
	if a := <-answered; a == nil || a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a body that came late: %+v", a)
	}
	w.owes()

	before, polled := servertest.WaitingPolls(), make(chan *reply, 1)
	go func() {
		a, err := w.try(scenario{request: "GET /client/12/status_change/?wait=30", header: asReadOnly.header()})
		if err != nil {
			t.Error(err)
		}
		polled <- a
	}()
	servertest.AwaitPolls(w, before+1)
	_, _, err = w.store.PutClient(t.Context(), "12", gen.ClientUpdate{Blocked: new(true)})
	w.must(err)
	w.client("12").local(136).login()
	if a := <-polled; a == nil || a.status != http.StatusForbidden || strings.Contains(string(a.body), "sequence") {
		t.Errorf("a poll that waited: %+v", a)
	}
}
