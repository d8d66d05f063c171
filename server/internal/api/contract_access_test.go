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

// testToken is a token, and its application, that every testServer has.
type testToken struct {
	token, client string
	access        gen.AccessLevel
	expired       bool
}

// The tokens of a testServer. A request without an Authorization header of its own uses the operator's.
var (
	operatorToken    = testToken{token: "OPERATOR", access: store.Operator}
	allToken         = testToken{token: "ALL", client: "12", access: gen.AccessLevelAll}
	callAPIToken     = testToken{token: "CALLAPI", client: "12", access: gen.AccessLevelCallAPI}
	readOnlyToken    = testToken{token: "READONLY", client: "12", access: gen.AccessLevelReadOnly}
	otherClientToken = testToken{token: "OTHER", client: "13", access: gen.AccessLevelAll}
	expiredToken     = testToken{token: "EXPIRED", access: store.Operator, expired: true}

	testTokens = []testToken{operatorToken, allToken, callAPIToken, readOnlyToken, otherClientToken, expiredToken}
)

func (a testToken) id() string { return fmt.Sprintf("%032x", a.token)[:32] }

// hash returns the stored hash of the application's secret, which equals its id.
func (a testToken) hash() []byte {
	hash := hmac.New(sha256.New, []byte("key"))
	hash.Write([]byte(a.id()))
	return hash.Sum(nil)
}

// credentials returns the form of a request for the token.
func (a testToken) credentials() string {
	return credentials(gen.ApplicationSecret{ID: a.id(), Secret: a.id()}).Encode()
}

// header returns the header of a request with the token.
func (a testToken) header() map[string]string {
	return map[string]string{"Authorization": "Bearer " + a.token}
}

// addTokens inserts the applications and tokens directly into the database.
func (ts *testServer) addTokens(db querier) {
	ts.Helper()
	var applications, tokens []any
	for i, a := range testTokens {
		expires := int64(9e15)
		if a.expired {
			expires = 1
		}
		hash := sha256.Sum256([]byte(a.token))
		applications = append(applications, a.id(), a.client, strings.ToLower(a.token), a.access, []byte("key"),
			a.hash())
		tokens = append(tokens, hash[:], i+1, expires)
	}
	ts.execOn(db, "INSERT INTO applications (id, client_id, name, access, hash_key, hash, created_at) VALUES "+
		placeholders("(?, ?, ?, ?, ?, ?, 0)", len(testTokens)), applications...)
	ts.execOn(db, "INSERT INTO tokens (hash, application, expires_at) VALUES "+
		placeholders("(?, ?, ?)", len(testTokens)), tokens...)
}

// placeholders returns the placeholders of an INSERT of several rows.
func placeholders(row string, rows int) string {
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// operationAccessScenarios returns requests of an operation with every token.
func operationAccessScenarios(e *apiOperation, s scenario) (all []scenario) {
	with := func(name string, header map[string]string) {
		all = append(all, s.refused(name, http.StatusUnauthorized, nil, func(s *scenario) {
			s.header, s.wantBody = header, `{"message":"Unauthorized"}`
			s.wantHeader = map[string]string{"WWW-Authenticate": "Bearer"}
		}))
	}
	with("without a token", map[string]string{"Authorization": ""})
	with("with an empty token", map[string]string{"Authorization": "Bearer "})
	with("with an unknown token", map[string]string{"Authorization": "Bearer OPERATORS"})
	with("with a token of another scheme", map[string]string{"Authorization": "Basic OPERATOR"})
	with("with an expired token", expiredToken.header())
	all = append(all, s.variant("with a scheme in another case", func(s *scenario) {
		s.header = map[string]string{"authorization": "bEARER  OPERATOR "}
	}))
	for _, a := range []testToken{allToken, callAPIToken, readOnlyToken, otherClientToken} {
		all = append(all, operationAccessScenario(e, s, a))
	}
	if e.spec.Responses.Value("429") != nil {
		all = append(all, operationLimitScenario(e, s))
	}
	return all
}

// operationAccessScenario returns a request with a token. The expected answer is derived from x-access in openapi.yaml.
func operationAccessScenario(e *apiOperation, s scenario, a testToken) scenario {
	least := gen.AccessLevel(fmt.Sprint(e.spec.Extensions["x-access"]))
	rank := map[gen.AccessLevel]int{
		gen.AccessLevelReadOnly: 1, gen.AccessLevelCallAPI: 2, gen.AccessLevelAll: 3, store.Operator: 4,
	}
	otherClient := a.client != "12" && strings.Contains(e.path, "{client_id}")
	want := ""
	switch {
	case least == store.Operator || otherClient:
		want = `{"message":"access denied","status":"access_denied"}`
	case rank[a.access] < rank[least] && a.access == gen.AccessLevelReadOnly:
		want = `{"message":"the application has read-only access","status":"user_access_type_deny"}`
	case rank[a.access] < rank[least]:
		want = `{"message":"the operation requires access all, the application has call_api",` +
			`"status":"app_access_type_deny"}`
	}
	name := fmt.Sprintf("with access %s of client %s", a.access, a.client)
	if want == "" {
		return s.variant(name, func(s *scenario) { s.header, s.wantBody = a.header(), "" })
	}
	return s.refused(name, http.StatusForbidden, nil, func(s *scenario) { s.header, s.wantBody = a.header(), want })
}

const wrongFormType = `{"error":"invalid_request","error_description":"the Content-Type must be ` +
	`application/x-www-form-urlencoded",` +
	`"message":"the Content-Type must be application/x-www-form-urlencoded"}`

func accessScenarios() []scenario {
	id, unknown := allToken.id(), strings.Repeat("0", 32)
	mine := `{"id":"` + id + `","name":"all","access":"all","created_at":"1970-01-01T00:00:00.000Z"}`
	notFound := `{"message":"there is no application ` + unknown + ` of client 12","status":"application_not_found"}`
	return []scenario{
		{
			name: "after too many failures", op: "requestToken", request: "POST /oauth/token",
			setup:  func(ts *testServer) { ts.failTokenRequests(otherClientToken.id()) },
			body:   strings.Replace(otherClientToken.credentials(), "client_secret=", "client_secret=0", 1),
			header: formType, status: 429,
			wantBody: `{"error":"rate_limit_exceeded",` +
				`"error_description":"too many failed token requests; try again later",` +
				`"message":"too many failed token requests; try again later"}`,
			wantHeader: map[string]string{"Retry-After": "6"},
		}, {
			name: "the right secret after too many failures", op: "requestToken", representative: true,
			request: "POST /oauth/token", body: otherClientToken.credentials(),
			header: formType, status: 200,
		}, {
			name: "a form", op: "requestToken", request: "POST /oauth/token", body: allToken.credentials(),
			header: formType, status: 200,
		}, {
			name: "a wrong secret", op: "requestToken", request: "POST /oauth/token",
			body:   strings.Replace(allToken.credentials(), "client_secret=", "client_secret=0", 1),
			header: formType, status: 400, wantBody: invalidClient,
		}, {
			name: "a body above the limit", op: "requestToken", request: "POST /oauth/token",
			body: strings.Repeat("x", auth.MaxTokenBody+1), header: formType, status: 413,
		}, {
			name: "a JSON body", op: "requestToken", request: "POST /oauth/token",
			body:   `{"grant_type":"client_credentials"}`,
			header: map[string]string{"Authorization": ""}, status: 415, wantBody: wrongFormType,
		}, {
			name: "a body of type text/plain", op: "requestToken", request: "POST /oauth/token",
			body:   allToken.credentials(),
			header: map[string]string{"Authorization": "", "Content-Type": "text/plain"}, status: 415,
			wantBody: wrongFormType,
		}, {
			name: "a compressed form", op: "requestToken", request: "POST /oauth/token", body: allToken.credentials(),
			header: map[string]string{
				"Authorization": "", "Content-Type": formType["Content-Type"], "Content-Encoding": "gzip",
			}, status: 415,
			wantBody: `{"error":"invalid_request","error_description":"the body must not be compressed; the only ` +
				`Content-Encoding is identity",` +
				`"message":"the body must not be compressed; the only Content-Encoding is identity"}`,
			wantHeader: map[string]string{"Accept-Encoding": "identity"},
		}, {
			name: "a token of the operator", op: "getUser", representative: true, request: "GET /user", status: 200,
			wantBody: `{"id":1,"login":"operator","client_id":null,"dealer_id":null,"admin":true,"access":"full",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "a token of a client", op: "getUser", request: "GET /user/", status: 200,
			header: callAPIToken.header(),
			wantBody: `{"id":3,"login":"callapi","client_id":12,"dealer_id":null,"admin":false,"access":"full",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "a token with access read_only", op: "getUser", request: "GET /user/", status: 200,
			header: readOnlyToken.header(),
			wantBody: `{"id":4,"login":"readonly","client_id":12,"dealer_id":null,"admin":false,"access":"read_only",` +
				`"extension_id":null,"timezone":"UTC"}`,
		}, {
			name: "the list has only applications of the client", op: "listApplications", representative: true,
			setup: (*testServer).withClient, request: "GET /client/12/application/",
			status: 200, wantBody: "[" + mine + "," + applicationJSON(callAPIToken) + "," +
				applicationJSON(readOnlyToken) + "]",
		}, {
			name: "create", op: "createApplication", representative: true, setup: (*testServer).withClient,
			request: "POST /client/12/application/",
			body:    `{"name":"CRM","access":"call_api"}`, status: 201, after: (*testServer).wantWorkingApplication,
		}, {
			name: "at most a hundred applications", op: "createApplication", request: "POST /client/12/application/",
			setup: func(ts *testServer) {
				ts.withClient()
				for i := range 97 {
					ts.exec("INSERT INTO applications (id, client_id, name, access, hash_key, hash, created_at) "+
						"VALUES (?, '12', 'x', 'all', ?, ?, 0)", fmt.Sprintf("%032d", i), []byte{}, []byte{})
				}
			},
			body: `{"name":"CRM","access":"all"}`, status: 409,
			wantBody: `{"message":"client 12 has 100 applications, which is the most",` +
				`"status":"application_limit_exceeded"}`,
		}, {
			name: "an unknown access", op: "createApplication", setup: (*testServer).withClient,
			request: "POST /client/12/application/", body: `{"name":"CRM","access":"operator"}`, status: 400,
			wantFields: []string{"access"},
		}, {
			name: "name and access are required", op: "createApplication", setup: (*testServer).withClient,
			request: "POST /client/12/application/", body: `{}`, status: 400, wantFields: []string{"name", "access"},
		}, {
			name: "an empty name and an unknown field are refused", op: "createApplication",
			setup:   (*testServer).withClient,
			request: "POST /client/12/application/", body: `{"name":"","access":"all","secret":"x"}`, status: 400,
			wantFields: []string{"name", "secret"},
		}, {
			name: "get", op: "getApplication", representative: true, setup: (*testServer).withClient,
			request: "GET /client/12/application/" + id,
			status:  200, wantBody: mine,
		}, {
			name: "get an application of another client", op: "getApplication", setup: (*testServer).withClient,
			status:  404,
			request: "GET /client/12/application/" + otherClientToken.id(),
			wantBody: `{"message":"there is no application ` + otherClientToken.id() +
				` of client 12","status":"application_not_found"}`,
		}, {
			name: "get an application of the operator", op: "getApplication", setup: (*testServer).withClient,
			status:  404,
			request: "GET /client/12/application/" + operatorToken.id(),
		}, {
			name: "get an unknown application", op: "getApplication", setup: (*testServer).withClient, status: 404,
			request: "GET /client/12/application/" + unknown, wantBody: notFound,
		}, {
			name: "revoke", op: "deleteApplication", representative: true, setup: (*testServer).withClient, status: 204,
			request: "DELETE /client/12/application/" + callAPIToken.id(), after: func(ts *testServer) {
				if resp := ts.send(scenario{
					request: "GET /user/", header: callAPIToken.header(),
				}); resp.status != http.StatusUnauthorized {
					ts.Errorf("a request with its token gets %d", resp.status)
				}
			},
		}, {
			name: "revoke an application of another client", op: "deleteApplication", setup: (*testServer).withClient,
			status:  404,
			request: "DELETE /client/12/application/" + otherClientToken.id(),
		}, {
			name: "revoke an unknown application", op: "deleteApplication", setup: (*testServer).withClient,
			status:  404,
			request: "DELETE /client/12/application/" + unknown, wantBody: notFound,
		}, {
			name: "a blocked client", op: "getUser", setup: (*testServer).withBlocked, request: "GET /user/",
			status: 403,
			header: allToken.header(), wantBody: `{"message":"the client is blocked","status":"user_blocked"}`,
		}, {
			name: "the refusal does not reveal to another client that a client is blocked", op: "getClient",
			setup: (*testServer).withBlocked, request: "GET /client/12",
			status: 403, header: otherClientToken.header(),
			wantBody: `{"message":"access denied","status":"access_denied"}`,
		}, {
			name: "an unblocked client", op: "putClient", setup: (*testServer).withBlocked, request: "PUT /client/12",
			body: `{"blocked":false}`, status: 200, wantBody: `{"id":"12","name":"Ringme","blocked":false}`,
			after: func(ts *testServer) {
				if resp := ts.send(scenario{
					request: "GET /user/", header: allToken.header(),
				}); resp.status != http.StatusOK {
					ts.Errorf("a request with its token gets %d %s", resp.status, resp.body)
				}
			},
		},
	}
}

func applicationJSON(a testToken) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"access":%q,"created_at":"1970-01-01T00:00:00.000Z"}`,
		a.id(), strings.ToLower(a.token), a.access)
}

func (ts *testServer) withBlocked() {
	ts.withClient()
	_, _, err := ts.store.PutClient(ts.Context(), "12", gen.ClientUpdate{Blocked: new(true)})
	ts.must(err)
}

// The server refuses a caller that is revoked while its body arrives, or blocked while its poll waits.
func TestContractChecksAccessAgain(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	body, rest := io.Pipe()
	answered := make(chan *http.Response, 1)
	go func() {
		r,
			err := http.NewRequestWithContext(t.Context(), http.MethodPut, ts.server.URL+ts.base+
			"/client/12/agent/local/136/status", body)
		if err == nil {
			r.Header.Set("Authorization", "Bearer "+allToken.token)
			r.Header.Set("Content-Type", "application/json")
			var a *http.Response
			if a, err = ts.server.Client().Do(r); err == nil {
				_ = a.Body.Close()
				answered <- a
				return
			}
		}
		t.Error(err)
		close(answered)
	}()
	_, err := io.WriteString(rest, `{"agent_status":`)
	ts.must(err)
	ts.must(ts.store.DeleteApplication(t.Context(), "12", allToken.id()))
	_, err = io.WriteString(rest, `"available"}`)
	ts.must(err)
	ts.must(rest.Close())
	if a := <-answered; a == nil || a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a late body: %+v", a)
	}
	ts.wantDeliveries()

	before, polled := servertest.WaitingPolls(), make(chan *apiResponse, 1)
	go func() {
		resp, err := ts.do(scenario{request: "GET /client/12/status_change/?wait=30", header: readOnlyToken.header()})
		if err != nil {
			t.Error(err)
		}
		polled <- resp
	}()
	servertest.AwaitPolls(ts, before+1)
	_, _, err = ts.store.PutClient(t.Context(), "12", gen.ClientUpdate{Blocked: new(true)})
	ts.must(err)
	ts.client("12").local(136).login()
	if resp := <-polled; resp == nil || resp.status != http.StatusForbidden ||
		strings.Contains(string(resp.body), "sequence") {
		t.Errorf("a waiting poll: %+v", resp)
	}
}
