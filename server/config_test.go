package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/webhook"
)

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		args, env []string
		want      config
	}{
		"defaults": {nil, nil, config{}},
		"variables": {
			nil,
			[]string{
				"AGENTEVENTS_ADDR=:0", "AGENTEVENTS_DATABASE_URL=sqlite:/var/lib/a.db", "AGENTEVENTS_TIMEOUT=100ms",
				"AGENTEVENTS_RETRY_WINDOW=720h", "AGENTEVENTS_LOG_LEVEL=debug", "AGENTEVENTS_LOG_FORMAT=json",
				"AGENTEVENTS_ALLOW_NETWORKS=10.1.2.3/8, fd00::/8", "AGENTEVENTS_DENY_NETWORKS=10.1.2.3/16",
				"ADDR=ignored",
				"AGENTEVENTS_RETRY_SCHEDULE=100ms, 24h", "AGENTEVENTS_RETRY_JITTER=0%", "AGENTEVENTS_DEPLOY_WINDOW=90s",
				"AGENTEVENTS_KEEP=1h", "AGENTEVENTS_KEEP_ROWS=1000", "AGENTEVENTS_METRICS_ADDR=:9090",
				"AGENTEVENTS_DRAIN=1m",
				"AGENTEVENTS_TRUSTED_PROXIES=127.0.0.1/8,::1/128",
			},
			config{
				addr: ":0", metricsAddr: ":9090", databaseURL: "sqlite:/var/lib/a.db", timeout: 100 * time.Millisecond,
				retryWindow: 720 * time.Hour, deployWindow: 90 * time.Second, logLevel: slog.LevelDebug, logJSON: true,
				drain: time.Minute, keep: time.Hour, keepRows: 1000,
				schedule: webhook.Schedule{Delays: []time.Duration{100 * time.Millisecond, 24 * time.Hour}},
				networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
				denied:   []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},

				trustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
			},
		},
		"flags": {
			[]string{"--timeout=1m", "--retry-window", "1m", "--log-level=error"},
			nil,
			config{timeout: time.Minute, retryWindow: time.Minute, logLevel: slog.LevelError},
		},
		"a flag overrides its variable": {
			[]string{"--timeout=2s"}, []string{"AGENTEVENTS_TIMEOUT=nonsense"}, config{timeout: 2 * time.Second},
		},
		"a percentage without its sign": {
			[]string{"--retry-schedule=1s", "--retry-jitter=100"},
			nil,
			config{schedule: webhook.Schedule{Delays: []time.Duration{time.Second}, Jitter: 1}},
		},
		"an empty variable is unset": {
			nil,
			[]string{"AGENTEVENTS_TIMEOUT=", "AGENTEVENTS_ALLOW_NETWORKS=", "AGENTEVENTS_TRUSTED_PROXIES="},
			config{},
		},
		"an empty list item is ignored": {[]string{"--allow-networks=,"}, nil, config{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := configOf(t, c.args, c.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withDefaults(c.want), got, cmp.AllowUnexported(config{}, netip.Prefix{}),
				cmp.Comparer(sameNetwork)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sameNetwork(a, b netip.Prefix) bool { return a == b }

func withDefaults(c config) config {
	d := config{
		"127.0.0.1:8080", c.metricsAddr, "sqlite:agentevents.db", c.networks, c.denied, c.trustedProxies,
		10 * time.Second,
		24 * time.Hour, 15 * time.Minute, webhook.DefaultSchedule(),
		5 * time.Second, 720 * time.Hour, 1_000_000, c.operatorID, c.operatorSecret, c.encryptionKey, c.logLevel,
		c.logJSON,
	}
	if c.addr != "" {
		d.addr, d.databaseURL = c.addr, c.databaseURL
	}
	if c.deployWindow != 0 {
		d.deployWindow = c.deployWindow
	}
	if c.timeout != 0 {
		d.timeout = c.timeout
	}
	if c.retryWindow != 0 {
		d.retryWindow = c.retryWindow
	}
	if c.schedule.Delays != nil {
		d.schedule = c.schedule
	}
	if c.drain != 0 {
		d.drain = c.drain
	}
	if c.keep != 0 {
		d.keep, d.keepRows = c.keep, c.keepRows
	}
	return d
}

// configOf parses a command line and an environment.
func configOf(t *testing.T, args, env []string) (config, error) {
	t.Helper()
	var line commands
	var out bytes.Buffer
	command, err := parse(&line, append([]string{"serve"}, args...), variables(env), &out, &out)
	if err != nil || command != "serve" || out.Len() > 0 {
		t.Fatalf("command %q, error %v, output %s", command, err, out.String())
	}
	return line.Serve.validate()
}

func TestConfigRejectsInvalidValues(t *testing.T) {
	for flag, values := range map[string][]string{
		"addr":         {"nowhere", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", ":"},
		"metrics-addr": {"9090", "127.0.0.1", "127.0.0.1:65536", ":"},
		"database-url": {
			"agentevents.db", "sqlite:", "sqlite::memory:", ":x", "SQLITE:x", "oracle://scott:tiger@db/x",
			"postgres://scott:tiger@db:y/x",
		},
		"allow-networks": {
			"10.0.0.0", "10.0.0.0/33", "banana", "10.0.0.0/8;192.168.0.0/16", "10.0.0.0/8 192.168.0.0/16",
		},
		"deny-networks":   {"10.0.0.0", "banana"},
		"trusted-proxies": {"127.0.0.1", "::1", "all", "*"},
		"timeout":         {"10", "99ms", "61s", "-1s", "soon"},
		"retry-window":    {"59s", "721h", "1d", "0"},
		"deploy-window":   {"-1s", "24h1s", "1d", "15"},
		"retry-schedule":  {"5", "5s,,30s", "99ms", "5s,25h", "5s;30s", "-5s", ",", "hourly"},
		"retry-jitter":    {"101%", "-1%", "0.2", "20 %", "%", "wild", "20%%"},
		"drain":           {"61s", "-1s", "5"},
		"keep":            {"59m", "87601h", "30d", "for ever"},
		"keep-rows":       {"999", "1000000001", "-1", "1e6", "all"},
		"log-level":       {"loud", "INFO", "info+2"},
		"log-format":      {"xml", "JSON"},
	} {
		for _, value := range values {
			_, err := configOf(t, []string{"--" + flag + "=" + value}, nil)
			if err == nil || strings.Count(err.Error(), "--") != 1 ||
				!strings.Contains(err.Error(), variable(flag)+" (--"+flag+") ") {
				t.Errorf("--%s=%s: %v", flag, value, err)
			}
			if err != nil && strings.Contains(err.Error(), "tiger") {
				t.Errorf("the error contains a password: %v", err)
			}
			_, byVariable := configOf(t, nil, []string{variable(flag) + "=" + value})
			if byVariable == nil || byVariable.Error() != err.Error() {
				t.Errorf("%s=%s: %v, but as a flag: %v", variable(flag), value, byVariable, err)
			}
		}
	}
}

// A variable or a file sets the secret. No error contains it.
func TestConfigOfOperatorSecret(t *testing.T) {
	const secret = "correct-horse-battery"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	byFile, byVariable := "AGENTEVENTS_OPERATOR_SECRET_FILE="+file, "AGENTEVENTS_OPERATOR_SECRET="+secret
	for _, env := range [][]string{{byFile}, {byVariable}} {
		got, err := configOf(t, []string{"--operator-id=pbx"}, env)
		if err != nil || got.operatorID != "pbx" || got.operatorSecret != secret {
			t.Errorf("%q: id %q, secret %q, %v", env, got.operatorID, got.operatorSecret, err)
		}
	}
	for want, env := range map[string][]string{
		"AGENTEVENTS_OPERATOR_ID (--operator-id) and AGENTEVENTS_OPERATOR_SECRET, or its file by " +
			"AGENTEVENTS_OPERATOR_SECRET_FILE, must be set together": {byVariable},
		"must be set together": {"AGENTEVENTS_OPERATOR_ID=pbx"},
		"AGENTEVENTS_OPERATOR_SECRET_FILE (--operator-secret-file) must not be set together": {
			"AGENTEVENTS_OPERATOR_ID=pbx", byFile, byVariable,
		},
		"AGENTEVENTS_OPERATOR_SECRET_FILE (--operator-secret-file) cannot be read": {
			"AGENTEVENTS_OPERATOR_ID=pbx", byFile + "x",
		},
		"must be 1 to 64 characters": {
			"AGENTEVENTS_OPERATOR_ID=p b x", byVariable,
		},
		"\n  AGENTEVENTS_OPERATOR_SECRET must be 16 to 128 characters of": {
			"AGENTEVENTS_OPERATOR_ID=pbx", "AGENTEVENTS_OPERATOR_SECRET=correct horse",
		},
		"\n  the file of AGENTEVENTS_OPERATOR_SECRET_FILE (--operator-secret-file) must contain 16 to 128 " +
			"characters of": {
			"AGENTEVENTS_OPERATOR_ID=pbx", "AGENTEVENTS_OPERATOR_SECRET_FILE=config_test.go",
		},
	} {
		_, err := configOf(t, nil, env)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "horse") {
			t.Errorf("%q: %v", env, err)
		}
	}
}

// A secret whose file cannot be read counts as set, and an invalid id hides no invalid secret.
func TestConfigListsEachErrorOfTheOperatorOnce(t *testing.T) {
	const together, secret = "operator-id) and ", "AGENTEVENTS_OPERATOR_SECRET must be 16 to 128 characters"
	const unreadable = "operator-secret-file) cannot be read"
	for _, c := range []struct{ id, secret, file, wants string }{
		{id: "pbx", file: "/none", wants: unreadable},
		{file: "/none", wants: unreadable + "\n" + together},
		{id: "p b x", secret: "short", wants: "operator-id) must be 1 to 64 characters\n" + secret},
		{secret: "short", wants: together + "\n" + secret},
	} {
		_, err := configOf(t, nil, []string{
			"AGENTEVENTS_OPERATOR_ID=" + c.id, "AGENTEVENTS_OPERATOR_SECRET=" + c.secret,
			"AGENTEVENTS_OPERATOR_SECRET_FILE=" + c.file,
		})
		got := strings.Split(fmt.Sprint(err), "\n")[1:]
		wants := strings.Split(c.wants, "\n")
		if !slices.EqualFunc(got, wants, strings.Contains) {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestConfigRequires64DigitEncryptionKey(t *testing.T) {
	key := strings.Repeat("0f", 32)
	got, err := configOf(t, nil, []string{"AGENTEVENTS_ENCRYPTION_KEY=" + key})
	if err != nil || len(got.encryptionKey) != 32 || got.encryptionKey[31] != 15 {
		t.Errorf("%x, %v", got.encryptionKey, err)
	}
	for _, wrong := range []string{key + "0f", key[2:], key[:63] + "g", "swordfish"} {
		_, err := configOf(t, nil, []string{"AGENTEVENTS_ENCRYPTION_KEY=" + wrong})
		if err == nil || strings.Contains(err.Error(), wrong) ||
			!strings.Contains(err.Error(), "\n  AGENTEVENTS_ENCRYPTION_KEY must be 64 hexadecimal digits") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	_, err = configOf(t, []string{"--encryption-key-file=config_test.go"}, nil)
	if err == nil || !strings.Contains(err.Error(), "\n  the file of AGENTEVENTS_ENCRYPTION_KEY_FILE "+
		"(--encryption-key-file) must contain 64 hexadecimal digits") {
		t.Error(err)
	}
}

// One address cannot serve the API and the metrics. Port 0 takes another port each time.
func TestConfigRequiresTwoAddresses(t *testing.T) {
	for _, c := range []struct {
		addr, metrics string
		wrong         bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"127.0.0.1:8080", "127.0.0.1:8081", false},
	} {
		_, err := configOf(t, []string{"--addr=" + c.addr, "--metrics-addr=" + c.metrics}, nil)
		if c.wrong != (err != nil) || err != nil && !strings.Contains(err.Error(), "AGENTEVENTS_METRICS_ADDR "+
			"(--metrics-addr) must differ from AGENTEVENTS_ADDR, such as 127.0.0.1:8081") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// The driver of PostgreSQL gets its URL unchanged.
func TestConfigAcceptsPostgreSQLURLs(t *testing.T) {
	for _, url := range []string{"postgres://scott:tiger@db/x", "postgresql://db:5433/x?sslmode=require"} {
		c, err := configOf(t, nil, []string{"AGENTEVENTS_DATABASE_URL=" + url})
		if err != nil || c.databaseURL != url {
			t.Errorf("%s: %q, %v", url, c.databaseURL, err)
		}
	}
}

func TestConfigListsAllErrors(t *testing.T) {
	_, err := configOf(t, []string{"--timeout=soon", "--addr=nowhere"},
		[]string{"AGENTEVENTS_DATABASE_URL=oracle:x", "AGENTEVENTS_ALLOW_NETWORKS=banana,10.0.0.0/8,kiwi"})
	const want = `invalid configuration:
  AGENTEVENTS_ADDR (--addr) must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080
  AGENTEVENTS_DATABASE_URL (--database-url) must be sqlite:PATH or postgres://USER@HOST:PORT/DATABASE; ` +
		`the scheme "oracle" is unknown
  AGENTEVENTS_ALLOW_NETWORKS (--allow-networks) must be networks such as 10.0.0.0/8,fd00::/8; ` +
		`these are invalid: ["banana" "kiwi"]
  AGENTEVENTS_TIMEOUT (--timeout) must be a duration from 100ms to 1m, such as 500ms or 30s`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
