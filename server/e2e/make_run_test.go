package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// make demo prints the steps of its story in order.
func TestDemoPrintsItsSteps(t *testing.T) {
	pgtest.SQLiteOnly(t, "the demo serves a file")
	t.Parallel()
	tmp := t.TempDir()
	cmd := exec.Command(binary(demoBinary), "-binary", binary(serverBinary))
	cmd.Env = append(environment(), "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo: %v\n%s\n%s", err, stdout, stderr.Bytes())
	}
	rest := string(stdout)
	for _, want := range []string{
		`curl -X PUT "$API/client/12"`, "\n      {\n        \"url\": \"http://127.0.0.1:",
		"] ------\n", "] agent_status => available\n", "] agent_type => local\n", "] event_source => api\n",
		"] agent_id => 136\n", "] extension_name => 000*094@ringme.ru\n",
		"changed: false, deliveries: 0", "] agent_status => logged_out\n", "the second login has sent nothing",
		"] agent_number => +7 (812) 336-42-42\n", "exit code 0",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing or out of order in\n%s", want, stdout)
		}
		rest = after
	}
	if bytes.Contains(stdout, []byte("\x1b")) {
		t.Error("the output has colours although it is not a terminal")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v (%v)", left, err)
	}
}

// make run serves the database in bin/, even if the environment has settings of another server.
func TestMakeRunIgnoresSettingsOfAnotherServer(t *testing.T) {
	pgtest.SQLiteOnly(t, "make run serves a file")
	t.Parallel()
	dir := t.TempDir()
	p := makeRun(t, dir, "AGENTEVENTS_DATABASE_URL=sqlite:other.db",
		"AGENTEVENTS_ALLOW_NETWORKS=10.0.0.0/8", "AGENTEVENTS_OPERATOR_ID=other",
		"AGENTEVENTS_OPERATOR_SECRET_FILE=missing", "AGENTEVENTS_ENCRYPTION_KEY_FILE=missing",
		"AGENTEVENTS_ENCRYPTION_KEY="+strings.Repeat("0f", 32))
	printed := p.out.String()
	contains(t, "output", printed, "export AGENTEVENTS_DATABASE_URL=sqlite:bin/agentevents.db\n",
		`networks="[127.0.0.0/8 ::1/128]"`)
	checkLists(t, printed, "application of client 12", "read_only")
	checkLists(t, printed, "application of the operator", "operator")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "make run ends", p.ended)
	equal(t, "exit code", p.cmd.ProcessState.ExitCode(), 0)
	list, _, _ := command(t, databaseAt("sqlite:"+filepath.Join(dir, "bin", "agentevents.db")), "application", "list")
	contains(t, "applications", list, "make run")
	if _, err := os.Stat(filepath.Join(dir, "other.db")); err == nil {
		t.Error("make run served the database of the other server")
	}
}

// makeRun starts in a directory what make run starts, with further variables, and returns it when it has printed its
// instructions. The directory gets bin/agentevents.
func makeRun(t *testing.T, dir string, env ...string) *other {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(serverBinary), filepath.Join(bin, "agentevents")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(demoBinary), "-binary", "bin/agentevents", "-serve")
	cmd.Dir, cmd.Env = dir, append(append(environment(), "AGENTEVENTS_ADDR=127.0.0.1:0"), env...)
	p := background(t, cmd)
	t.Cleanup(func() { // a kill would not stop the server
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-p.exited
	})
	eventually(t, "make run prints its instructions", func() bool {
		return p.ended() || strings.Contains(p.out.String(), "A new token")
	})
	return p
}

// checkLists signs in as an application that make run has printed. It checks that every list that requires its access
// level has items at the examples of its path parameters.
func checkLists(t *testing.T, printed, application, access string) {
	t.Helper()
	how := regexp.MustCompile(`(?s)open (http://\S+)/docs,.*` + application + ` +id (\S+)  secret (\S+)`)
	found := how.FindStringSubmatch(printed)
	if found == nil {
		t.Fatalf("make run prints no credentials of the %s:\n%s", application, printed)
	}
	server := found[1]
	token, err := lab.Token(http.DefaultClient, server, found[2], found[3])
	if err != nil {
		t.Fatal(err)
	}
	paths := lists(t, server, access)
	if len(paths) == 0 {
		t.Fatalf("the document has no list that requires %s", access)
	}
	for _, path := range paths {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if n, err := items(req); n == 0 || err != nil {
			t.Errorf("%s has %d items (%v)", path, n, err)
		}
	}
}

// lists returns the paths of the lists that require an access level.
func lists(t *testing.T, server, access string) (paths []string) {
	t.Helper()
	at, err := url.Parse(server + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapi3.NewLoader().LoadFromURI(at)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		if item.Get == nil || item.Get.Extensions["x-access"] != access {
			continue
		}
		answer := item.Get.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
		if answer == nil || !answer.Schema.Value.Type.Is("array") {
			continue
		}
		for _, p := range slices.Concat(item.Parameters, item.Get.Parameters) {
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", fmt.Sprint(p.Value.Example))
		}
		paths = append(paths, document.Servers[0].URL+path)
	}
	return paths
}

// items returns the number of items in a list.
func items(req *http.Request) (int, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var all []any
	err = json.NewDecoder(resp.Body).Decode(&all)
	return len(all), err
}
