package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/agentevents/agentevents/store"
)

// longest is the longest that the configuration lets anything wait: whoever served the store may have had another one.
const longest = 48 * time.Hour

// verify prints what it checks in the store, and the faults that it finds, which are an error.
func verify(ctx context.Context, s settings, stdout io.Writer) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	faults := 0
	err = store.Verify(ctx, store.Options{
		URL: c.databaseURL, Longest: longest, Log: slog.New(slog.DiscardHandler),
	}, func(check store.Check) {
		faults += check.Count
		printCheck(stdout, check)
	})
	if err != nil {
		return err
	}
	if faults > 0 {
		return fmt.Errorf("%s has faults, %d in all", store.Redacted(c.databaseURL), faults)
	}
	_, err = fmt.Fprintf(stdout, "%s is sound\n", store.Redacted(c.databaseURL))
	return err
}

// printCheck prints one line, and one for each fault.
func printCheck(w io.Writer, c store.Check) {
	if c.Count == 0 {
		fmt.Fprintln(w, "ok    ", c.Name)
		return
	}
	fmt.Fprintln(w, "FAULT ", c.Name)
	for _, fault := range c.Faults {
		fmt.Fprintln(w, "         ", fault)
	}
	if more := c.Count - len(c.Faults); more > 0 {
		fmt.Fprintf(w, "          and %d more\n", more)
	}
}
