// Sdk tests the SDKs that generators make from openapi.yaml. For each of them it runs the commands of gen/README.md,
// which generate the SDK with the default options of its tool, build it, and build a program of testdata/ with it. Then
// it starts a server with an empty store and a receiver, and runs the program. All programs make the same calls: they
// request a token, create a client, agents and events, set statuses, read the deliveries, cause an error, and delete
// everything.
//
//	go run ./server/sdk -binary bin/agentevents -only python,php
//
// With -receive it is only a receiver and prints the events that arrive, for a reader who runs the commands of
// gen/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

func main() { lab.Main("sdk", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sdk", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/agentevents", "the `program` that the SDKs call")
	only := flags.String("only", "", "the `SDKs` to test, for example python,php; all by default")
	address := flags.String("receive", "",
		"only receive events, at this `address`, for example 127.0.0.1:9000")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *address != "" {
		return receive(ctx, *address, stdout)
	}
	chosen, err := choose(sdks, *only)
	if err != nil {
		return err
	}
	return testAll(ctx, *binary, chosen, stdout)
}

// choose returns the SDKs with the given names, which are separated by commas. Without a name, it returns all.
func choose(all []sdk, names string) (chosen []sdk, err error) {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	delete(wanted, "")
	every := len(wanted) == 0
	for _, s := range all {
		if every || wanted[s.name] {
			chosen = append(chosen, s)
		}
		delete(wanted, s.name)
	}
	for name := range wanted {
		err = errors.Join(err, fmt.Errorf("unknown SDK %q", name))
	}
	return chosen, err
}

// testAll tests the SDKs in order and prints the results. If one fails, testAll keeps the generated files.
func testAll(ctx context.Context, binary string, chosen []sdk, stdout io.Writer) error {
	t, err := newTrial(binary)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Generating SDKs in %s\n", t.dir)
	began := time.Now()
	var results []result
	for _, s := range chosen {
		r := t.test(ctx, s)
		results = append(results, r)
		fmt.Fprintln(stdout, r.line())
	}
	fmt.Fprintf(stdout, "\n%s\nTotal: %.0f s\n", table(results), time.Since(began).Seconds())
	if err := verdict(results, os.Getenv("CI") != ""); err != nil {
		return fmt.Errorf("%w\nthe generated files are in %s", err, t.dir)
	}
	return os.RemoveAll(t.dir)
}

// newTrial creates the directory of a trial. The current directory must be the root of the repository.
func newTrial(binary string) (*trial, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "openapi.yaml")); err != nil {
		return nil, fmt.Errorf("run this in the root of the repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "agentevents-sdk-")
	if err != nil {
		return nil, err
	}
	return &trial{root: root, dir: dir, binary: binary}, nil
}
