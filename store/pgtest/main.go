package pgtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Environment variables of tests. People set the first two. Main sets the last one for the process that it starts.
const (
	// ServerVariable has the URL of a server to use instead of a private cluster. Each test creates a database there.
	ServerVariable = "AGENTEVENTS_TEST_POSTGRES_URL"
	// EngineVariable is sqlite or postgres for the tests on that engine alone, and absent for both.
	EngineVariable   = "AGENTEVENTS_TEST_ENGINE"
	templateVariable = "AGENTEVENTS_TEST_POSTGRES_TEMPLATE"
)

// Suite says how the tests of a package run on PostgreSQL.
type Suite struct {
	// Run is the pattern of the tests that run there (see go help testflag), unless the command line has one. Empty
	// means all tests.
	Run string
	// Prepare creates the tables in an empty database, the template that Database copies. Nil leaves it empty.
	Prepare func(ctx context.Context, url string) error
}

// Main runs the tests of a package on SQLite, and then, in another process, on PostgreSQL. It uses the server of
// AGENTEVENTS_TEST_POSTGRES_URL, or else a private cluster without durability. It returns the exit code for TestMain.
// If there is no PostgreSQL, it prints a line to standard error, and fails if CI is set in the environment.
func Main(m *testing.M, s Suite) int {
	if OnPostgres() {
		return m.Run()
	}
	engine, server, ci := os.Getenv(EngineVariable), os.Getenv(ServerVariable), os.Getenv("CI")
	code := 0
	if engine != "postgres" {
		code = m.Run()
	}
	if engine == "sqlite" || !runsTests() {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return max(code, verdict(s.onPostgres(ctx, server), ci != "", os.Stderr))
}

// verdict returns the exit code of the tests on PostgreSQL.
func verdict(err error, ci bool, stderr io.Writer) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNone) && !ci:
		fmt.Fprintf(stderr, "SKIPPED the tests on PostgreSQL: %v, and %s is not set\n", err, ServerVariable)
		return 0
	default:
		fmt.Fprintln(stderr, "FAIL: the tests on PostgreSQL:", err)
		return 1
	}
}

// runsTests reports whether go test runs tests, and does not list or fuzz them.
func runsTests() bool {
	for _, name := range []string{"test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// onPostgres runs the tests on the server of a URL, or on a private cluster if there is no URL.
func (s Suite) onPostgres(ctx context.Context, url string) error {
	if url != "" {
		return s.at(ctx, At(url))
	}
	c, err := Start(ctx, Options{Settings: map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300",
	}})
	if err != nil {
		return err
	}
	return errors.Join(s.at(ctx, c.Server), c.Stop())
}

// at runs the tests on a server.
func (s Suite) at(ctx context.Context, server *Server) (err error) {
	template, err := server.Create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Drop(context.WithoutCancel(ctx), template)) }()
	if s.Prepare != nil {
		if err := s.Prepare(ctx, template); err != nil {
			return fmt.Errorf("prepare a database: %w", err)
		}
	}
	return s.runOn(ctx, server.url, template)
}

// runOn runs this program in another process, with the tests on PostgreSQL.
func (s Suite) runOn(ctx context.Context, server, template string) error {
	cmd := exec.CommandContext(ctx, os.Args[0], s.arguments()...) //nolint:gosec // the tests themselves
	cmd.Env = append(os.Environ(), ServerVariable+"="+server, templateVariable+"="+template)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attributes(nil)
	p, err := run(cmd)
	if err != nil {
		return err
	}
	return p.wait()
}

// arguments returns the arguments of this process, without the files that this process writes itself.
func (s Suite) arguments() []string {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile=") || strings.HasPrefix(arg, "-test.coverprofile=")
	})
	if s.Run == "" {
		return args
	}
	return append([]string{"-test.run=" + s.Run}, args...) // of two -test.run flags, the last one counts
}
