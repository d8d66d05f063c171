package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// showPHP is the script of the API manual, which prints the fields of a GET.
const showPHP = `<?php
error_log("------");
foreach ($_GET as $key => $value){
    error_log("$key => $value");
}
?>
`

// PHP receives the requests by the script of the API manual, and by the same script for POST.
func TestPHPReceivesRequestsAsInTheManual(t *testing.T) {
	pgtest.SQLiteOnly(t, "requests do not depend on the engine")
	t.Parallel()
	site, log := servePHP(t)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 136, "000*094@ringme.ru")
	a.createEvent(gen.AgentTypeLocal, 136, site+"/show.php", gen.RequestMethodGET, gen.EventTypeAgentLogin)
	a.createEvent(gen.AgentTypeLocal, 136, site+"/post.php", gen.RequestMethodPOST, gen.EventTypeAgentLogout)
	a.set(gen.AgentTypeLocal, 136, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	a.logout(136)
	want := []string{
		"------", "agent_status => available", "agent_type => local", "event_source => api", "agent_id => 136",
		"extension_name => 000*094@ringme.ru",
		"------", "agent_status => logged_out", "agent_type => local", "event_source => api", "agent_id => 136",
		"extension_name => 000*094@ringme.ru",
	}
	for i, name := range unusualNames {
		id := int64(i + 1)
		a.putAgent(gen.AgentTypeLocal, id, name)
		a.createEvent(gen.AgentTypeLocal, id, site+"/show.php", gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		eventually(t, "PHP logs the agent "+name, func() bool {
			return strings.Contains(log.String(), "] extension_name => "+name+"\n")
		})
		want = append(want, "------", "agent_status => available", "agent_type => local", "event_source => api",
			fmt.Sprintf("agent_id => %d", id), "extension_name => "+name)
	}
	equal(t, "log", strings.Join(scriptLines(log.String()), "\n"), strings.Join(want, "\n"))
}

// phpTime matches a line with a time, as in [Tue May 30 15:07:50 2017].
var phpTime = regexp.MustCompile(`(?m)^\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] (.*)$`)

// scriptLines returns the lines of the script, without those of PHP's web server.
func scriptLines(log string) (lines []string) {
	for _, found := range phpTime.FindAllStringSubmatch(log, -1) {
		if text := found[1]; text == "------" || strings.Contains(text, " => ") {
			lines = append(lines, text)
		}
	}
	return lines
}

// servePHP runs PHP's web server. Without PHP, the test is skipped; in CI it fails.
func servePHP(t *testing.T) (site string, log *lab.Log) {
	t.Helper()
	php, dir := installed(t, "php", "php-cli"), t.TempDir()
	writeScript(t, dir, "show.php", showPHP)
	writeScript(t, dir, "post.php", strings.Replace(showPHP, "$_GET", "$_POST", 1))
	addr := freePort(t)
	cmd := exec.Command(php, "-n", "-S", addr, "-t", dir) // -n: the machine's php.ini may send the log elsewhere
	log = background(t, cmd).out
	eventually(t, "PHP listens", func() bool { return listens("http://" + addr) })
	return "http://" + addr, log
}

func writeScript(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
