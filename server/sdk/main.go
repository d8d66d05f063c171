// Sdk shows that the SDKs which generators make of openapi.yaml work. For each of them it runs the commands of
// gen/README.md: they generate the SDK with the options that its tool has by default, build it, and build a program of
// testdata/ upon it. Then it starts the server with an empty store and a receiver, and has the program tell its story,
// which is the same for all: a token, a client, agents, events, their status, what was delivered, an error, the end.
//
//	go run ./server/sdk -binary bin/agentevents -only python,php
//
// With -receive it is only a receiver and prints the events that arrive, for a reader who follows gen/README.md by
// hand.
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
	binary := flags.String("binary", "bin/agentevents", "the `program` that the SDKs speak to")
	only := flags.String("only", "", "the SDKs, for example `python,php`; all without it")
	address := flags.String("receive", "",
		"be a receiver at this `address`, for example 127.0.0.1:9000, and nothing else")
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
	return tryAll(ctx, *binary, chosen, stdout)
}

// choose returns the SDKs that are named, separated by commas, in the order of all; without a name, all.
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
		err = errors.Join(err, fmt.Errorf("there is no SDK %q", name))
	}
	return chosen, err
}

// tryAll tries the SDKs one after the other and prints what came of it. What was generated is kept when one failed.
func tryAll(ctx context.Context, binary string, chosen []sdk, stdout io.Writer) error {
	t, err := newTrial(binary)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "The SDKs are made in %s.\n", t.dir)
	began := time.Now()
	var results []result
	for _, s := range chosen {
		r := t.try(ctx, s)
		results = append(results, r)
		fmt.Fprintln(stdout, r.line())
	}
	fmt.Fprintf(stdout, "\n%s\nAll this took %.0f s.\n", table(results), time.Since(began).Seconds())
	if err := verdict(results, os.Getenv("CI") != ""); err != nil {
		return fmt.Errorf("%w\nwhat was made is kept in %s", err, t.dir)
	}
	return os.RemoveAll(t.dir)
}

// newTrial makes the directory of a trial. The current directory is that of the repository.
func newTrial(binary string) (*trial, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "openapi.yaml")); err != nil {
		return nil, fmt.Errorf("run this where the repository is: %w", err)
	}
	dir, err := os.MkdirTemp("", "agentevents-sdk-")
	if err != nil {
		return nil, err
	}
	return &trial{root: root, dir: dir, binary: binary}, nil
}
