package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// settings are the settings of serve as text, with their defaults. A flag or an environment variable sets each. help.go
// has their help texts. CONTRIBUTING.md lists the steps to add a setting.
type settings struct {
	storeSettings
	Addr               string `group:"HTTP" default:"127.0.0.1:8080" help:"${addr}"`
	MetricsAddr        string `group:"HTTP" placeholder:"HOST:PORT" help:"${metrics_addr}"`
	TrustedProxies     string `group:"HTTP" placeholder:"CIDR,..." help:"${trusted_proxies}"`
	Drain              string `group:"HTTP" default:"5s" help:"${drain}"`
	EncryptionKeyFile  string `group:"Store" placeholder:"PATH" help:"${encryption_key_file}"`
	Keep               string `group:"Store" default:"720h" help:"${keep}"`
	KeepRows           string `group:"Store" default:"1000000" help:"${keep_rows}"`
	AllowNetworks      string `group:"Deliveries" placeholder:"CIDR,..." help:"${allow_networks}"`
	DenyNetworks       string `group:"Deliveries" placeholder:"CIDR,..." help:"${deny_networks}"`
	Timeout            string `group:"Deliveries" default:"10s" help:"${timeout}"`
	RetryWindow        string `group:"Deliveries" default:"24h" help:"${retry_window}"`
	RetrySchedule      string `group:"Deliveries" default:"5s,30s,2m,10m,30m,1h" help:"${retry_schedule}"`
	RetryJitter        string `group:"Deliveries" default:"20%" help:"${retry_jitter}"`
	DeployWindow       string `group:"Deliveries" default:"15m" help:"${deploy_window}"`
	OperatorID         string `group:"Operator" placeholder:"ID" help:"${operator_id}"`
	OperatorSecretFile string `group:"Operator" placeholder:"PATH" help:"${operator_secret_file}"`
	LogLevel           string `group:"Log" default:"info" help:"${log_level}"`
	LogFormat          string `group:"Log" default:"text" help:"${log_format}"`

	env vars // for the settings that have no flag
}

// storeSettings are the settings of every command that opens the store.
type storeSettings struct {
	DatabaseURL string `group:"Store" default:"sqlite:agentevents.db" help:"${database_url}"`
}

// options validates the settings and returns the options of a store without a log.
func (s storeSettings) options() (store.Options, error) {
	var wrong problems
	wrong.add("database-url", checkDatabaseURL(s.DatabaseURL))
	return store.Options{URL: s.DatabaseURL, Log: slog.New(slog.DiscardHandler)}, wrong.err()
}

// Secrets have no flag: other users of the machine can see the flags of a process.
const (
	operatorSecret = "operator-secret"
	encryptionKey  = "encryption-key"
)

// config is the parsed settings.
type config struct {
	addr           string
	metricsAddr    string // empty for none
	databaseURL    string
	networks       []netip.Prefix
	denied         []netip.Prefix
	trustedProxies []netip.Prefix
	timeout        time.Duration
	retryWindow    time.Duration
	deployWindow   time.Duration
	schedule       webhook.Schedule
	drain          time.Duration
	keep           time.Duration
	keepRows       int
	operatorID     string // empty for none
	operatorSecret string
	encryptionKey  []byte // nil for none
	logLevel       slog.Level
	logJSON        bool
}

// validate parses the settings. Its error lists every invalid setting.
func (s settings) validate() (c config, err error) {
	var wrong problems
	c.addr = s.Addr
	wrong.add("addr", checkAddr(s.Addr))
	c.metricsAddr = s.MetricsAddr
	wrong.add("metrics-addr", checkMetricsAddr(s.MetricsAddr, s.Addr))
	c.databaseURL = s.DatabaseURL
	wrong.add("database-url", checkDatabaseURL(s.DatabaseURL))
	c.networks, err = parseNetworks(s.AllowNetworks)
	wrong.add("allow-networks", err)
	c.denied, err = parseNetworks(s.DenyNetworks)
	wrong.add("deny-networks", err)
	c.trustedProxies, err = parseNetworks(s.TrustedProxies)
	wrong.add("trusted-proxies", err)
	c.timeout, err = parseDuration(s.Timeout, 100*time.Millisecond, time.Minute,
		"from 100ms to 1m, such as 500ms or 30s")
	wrong.add("timeout", err)
	c.retryWindow, err = parseDuration(s.RetryWindow, time.Minute, 720*time.Hour, "from 1m to 720h, such as 30m or 48h")
	wrong.add("retry-window", err)
	c.deployWindow, err = parseDuration(s.DeployWindow, 0, 24*time.Hour, "from 0s to 24h, such as 5m")
	wrong.add("deploy-window", err)
	c.schedule.Delays, err = parseDelays(s.RetrySchedule)
	wrong.add("retry-schedule", err)
	c.schedule.Jitter, err = parsePercent(s.RetryJitter)
	wrong.add("retry-jitter", err)
	c.drain, err = parseDuration(s.Drain, 0, time.Minute, "from 0s to 1m, such as 5s")
	wrong.add("drain", err)
	c.keep, err = parseDuration(s.Keep, time.Hour, 87600*time.Hour, "from 1h to 87600h, such as 168h")
	wrong.add("keep", err)
	c.keepRows, err = parseRows(s.KeepRows)
	wrong.add("keep-rows", err)
	c.operatorID, c.operatorSecret = s.OperatorID, s.secret(&wrong, operatorSecret, s.OperatorSecretFile)
	c.encryptionKey = s.key(&wrong)
	s.checkOperator(&wrong, c.operatorSecret)
	c.logLevel, err = parseLevel(s.LogLevel)
	wrong.add("log-level", err)
	c.logJSON, err = parseFormat(s.LogFormat)
	wrong.add("log-format", err)
	return c, wrong.err()
}

// leaseMargin is the time limit for recording an attempt.
const leaseMargin = 5 * time.Second

// lease is the duration of a lane's lease. It covers one attempt and its recording.
func (c config) lease() time.Duration { return c.timeout + leaseMargin }

// problems are the errors of the settings. Each begins with the setting's name.
type problems []string

func (p *problems) add(flag string, err error) {
	if err != nil {
		*p = append(*p, fmt.Sprintf("\n  %s (--%s) %v", variable(flag), flag, err))
	}
}

// addSecret is add for a secret, which its variable has or, if a file is named, that file. err says what is allowed.
func (p *problems) addSecret(name, file string, err error) {
	switch {
	case err == nil:
	case file == "":
		*p = append(*p, fmt.Sprintf("\n  %s must be %v", variable(name), err))
	default:
		flag := name + "-file"
		*p = append(*p, fmt.Sprintf("\n  the file of %s (--%s) must contain %v", variable(flag), flag, err))
	}
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return errors.New("invalid configuration:" + strings.Join(*p, ""))
}

func checkAddr(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080")
	}
	return nil
}

// checkMetricsAddr checks the address of metrics, empty for none. Port 0 takes another free port than the API's.
func checkMetricsAddr(s, api string) error {
	_, port, _ := net.SplitHostPort(s)
	switch {
	case s == "":
		return nil
	case s == api && checkAddr(s) == nil && port != "0":
		return fmt.Errorf("must differ from %s, such as 127.0.0.1:8081", variable("addr"))
	}
	return checkAddr(s)
}

func checkDatabaseURL(s string) error {
	scheme, path, found := strings.Cut(s, ":")
	switch {
	case !found || scheme == "":
		return errors.New("must be sqlite:PATH, such as sqlite:agentevents.db, or postgres://USER@HOST:PORT/DATABASE")
	case scheme == "postgres" || scheme == "postgresql":
		return store.CheckURL(s)
	case scheme != "sqlite":
		return fmt.Errorf("must be sqlite:PATH or postgres://USER@HOST:PORT/DATABASE; "+
			"the scheme %q is unknown", scheme)
	case path == "" || strings.HasPrefix(path, ":memory:"):
		return errors.New("must be sqlite:PATH, where PATH is a file")
	}
	return nil
}

// secret returns the value of a secret setting. Its source is the setting's variable or the file at the given path.
func (s settings) secret(wrong *problems, name, file string) string {
	secret := s.env[variable(name)]
	if file == "" {
		return secret
	}
	text, err := readSecret(file)
	if secret != "" {
		err = fmt.Errorf("must not be set together with %s", variable(name))
	}
	wrong.add(name+"-file", err)
	return text
}

var (
	validID     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	validSecret = regexp.MustCompile(`^[A-Za-z0-9._~-]{16,128}$`)
)

// checkOperator checks the operator's application. Its errors do not contain the secret, which is empty if its file
// cannot be read.
func (s settings) checkOperator(wrong *problems, secret string) {
	given := secret != "" || s.OperatorSecretFile != ""
	switch {
	case given != (s.OperatorID != ""):
		wrong.add("operator-id", fmt.Errorf("and %s, or its file by %s, must be set together",
			variable(operatorSecret), variable(operatorSecret+"-file")))
	case given && !validID.MatchString(s.OperatorID):
		wrong.add("operator-id", errors.New("must be 1 to 64 characters of A-Z a-z 0-9 . _ -"))
	}
	wrong.addSecret(operatorSecret, s.OperatorSecretFile, checkSecret(secret))
}

// checkSecret checks the operator's secret, empty for none. Its errors say what is allowed, and do not contain the
// secret.
func checkSecret(secret string) error {
	switch {
	case secret == "":
		return nil
	case !validSecret.MatchString(secret):
		return errors.New("16 to 128 characters of A-Z a-z 0-9 . _ ~ -")
	case isGuessable(secret):
		return fmt.Errorf("a secret that is not easy to guess: it has at least %d different characters, and is "+
			"neither repeated nor a series, such as what `openssl rand -hex 32` prints", minDistinct)
	}
	return nil
}

// key is the encryption key, nil for none.
func (s settings) key(wrong *problems) []byte {
	key, err := parseKey(s.secret(wrong, encryptionKey, s.EncryptionKeyFile))
	wrong.addSecret(encryptionKey, s.EncryptionKeyFile, err)
	return key
}

// parseKey parses the encryption key, nil for none. Its error says what is allowed, and does not contain the key.
func parseKey(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != store.KeySize {
		return nil, errors.New("64 hexadecimal digits, such as `openssl rand -hex 32` prints")
	}
	return key, nil
}

func parseNetworks(s string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	var wrong []string
	for field := range strings.SplitSeq(s, ",") {
		field = strings.TrimSpace(field)
		network, err := netip.ParsePrefix(field)
		switch {
		case err == nil:
			networks = append(networks, network.Masked())
		case field != "":
			wrong = append(wrong, field)
		}
	}
	if wrong != nil {
		return nil, fmt.Errorf("must be networks such as 10.0.0.0/8,fd00::/8; these are invalid: %q", wrong)
	}
	return networks, nil
}

func parseDuration(s string, minimum, maximum time.Duration, bounds string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < minimum || d > maximum {
		return 0, fmt.Errorf("must be a duration %s", bounds)
	}
	return d, nil
}

func parseDelays(s string) (delays []time.Duration, err error) {
	for field := range strings.SplitSeq(s, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(field))
		if err != nil || d < 100*time.Millisecond || d > 24*time.Hour {
			return nil, errors.New("must be durations from 100ms to 24h, separated by commas, such as 5s,30s,2m")
		}
		delays = append(delays, d)
	}
	return delays, nil
}

func parseRows(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1000 || n > 1_000_000_000 {
		return 0, errors.New("must be a number from 1000 to 1000000000")
	}
	return n, nil
}

func parsePercent(s string) (fraction float64, err error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "%"), 10, 8)
	if err != nil || n > 100 {
		return 0, errors.New("must be a whole percentage from 0% to 100%, such as 20%")
	}
	return float64(n) / 100, nil
}

func parseLevel(s string) (level slog.Level, err error) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s) {
		return level, errors.New("must be one of: debug, info, warn, error")
	}
	err = level.UnmarshalText([]byte(s))
	return level, err
}

func parseFormat(s string) (json bool, err error) {
	if s != "text" && s != "json" {
		return false, errors.New("must be one of: text, json")
	}
	return s == "json", nil
}
