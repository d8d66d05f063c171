package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
)

func TestMeIsTheClientOfTheToken(t *testing.T) {
	ls := newLiveServer(t)
	noClient := `{"message":"@me is the client of the token; an operator has none",` +
		`"status":"client_not_found"}`
	ls.expect(ls.call("GET", "/client/@me", ""), http.StatusNotFound, noClient)
	ls.expect(ls.call("PUT", "/client/@me", `{}`), http.StatusNotFound, noClient)
	ls.withAgents()
	mine := ls.clientToken("12", gen.AccessLevelAll)
	for _, path := range []string{"/client/12", "/client/@me", "/client/%40me", "/client/%40%6De/"} {
		ls.expect(ls.callAs(mine, "GET", path, ""), http.StatusOK, `{"id":"12","blocked":false}`)
	}
	for _, path := range []string{
		"/agent/local/136", "/agent/remote/%37/", "/agent/local/136/status", "/agent/local/136/event/",
	} {
		g := ls.callAs(mine, "GET", "/client/%40me"+path, "")
		if g.status != http.StatusOK || g.body != ls.call("GET", "/client/12"+path, "").body {
			t.Errorf("GET %%40me%s: %d %s", path, g.status, g.body)
		}
	}
	ls.expect(ls.call("GET", "/client/%2540me", ""), http.StatusBadRequest, "")
	ls.expect(ls.call("GET", "/client/@you", ""), http.StatusBadRequest, "")
}

func TestAgentsAreFilteredByExtension(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	for _, extension := range []string{"5", "6", "7"} {
		ls.expect(ls.call("PUT", "/client/12/agent/local/"+extension, `{"extension_name":"x","extension_id":`+extension+
			`}`), http.StatusCreated, "")
	}
	for query, want := range map[string]string{
		"": "5 6 7 136", "extension_id=5": "5", "extension_id=5&extension_id=6": "5 6",
		"extension_id[0]=5&extension_id[1]=6": "5 6",
		"extension_id[]=7":                    "7", "extension_id%5B0%5D=5&extension_id%5b12%5d=7": "5 7",
		"extension_id%5B%5D=6&x[0]=1":      "6",
		"extension_id[0]=5&extension_id=6": "5 6", "extension_id=8": "", "extension_id[x]=5": "5 6 7 136",
		"extension_id[0][0]=5": "5 6 7 136", "_=1&page[size]=3&a&b=%5B": "5 6 7 136", "extension_id[0]=5&limit=1": "5",
	} {
		g := ls.call("GET", "/client/12/agent/local/?"+query, "")
		var ids []string
		for part := range strings.SplitSeq(g.body, `"id":`) {
			if id, _, ok := strings.Cut(part, ","); ok && part[0] != '[' {
				ids = append(ids, id)
			}
		}
		if g.status != http.StatusOK || strings.Join(ids, " ") != want {
			t.Errorf("?%s: %d %q, want %q", query, g.status, ids, want)
		}
	}
}

// The server accepts requests in the forms that clients of the original API send.
func TestLenientParsing(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	created := ls.call("POST", "/client/12/agent/local/136/event",
		`{"url":"https:\/\/somehost.com\/fordel\/show.php","method":"GET","event_type":"agent-login","id":150.5,`+
			`"more":[[1.0,{"when":[["2017-05-30t15:00:00z"]]}]]}`)
	ls.expect(created, http.StatusCreated,
		`{"url":"https://somehost.com/fordel/show.php","id":1,"method":"GET","event_type":"agent-login"}`)

	get := ls.request("GET", contract.BasePath+"/client/12/agent/local/136/event", strings.NewReader("not even JSON"))
	get.Header.Set("Content-Type", "text/plain")
	ls.expect(ls.send(get), http.StatusOK, "["+created.body+"]")

	remove := ls.request("DELETE", contract.BasePath+"/client/12/agent/local/136/event/1/", http.NoBody)
	remove.Header.Set("Content-Type", "application/json")
	remove.Header.Set("Content-Length", "0")
	ls.expect(ls.send(remove), http.StatusNoContent, "")
	ls.expect(ls.call("GET", "/client/12/agent/local/136/event/", ""), http.StatusOK, "[]")
	ls.expect(ls.call("DELETE", "/client/12/agent/local/136", `{"really":`), http.StatusNoContent, "")
}
