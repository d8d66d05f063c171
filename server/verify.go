package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

// verify prints what it checks in the store, and the faults that it finds, which are an error.
func verify(ctx context.Context, s settings, stdout io.Writer) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	faults := 0
	err = store.Verify(ctx, store.Options{
		URL: c.databaseURL, Lease: c.lease(), Longest: c.schedule.Longest(), Log: slog.New(slog.DiscardHandler),
	}, func(check store.Check) {
		faults += check.Count
		printCheck(stdout, check)
	})
	if err != nil {
		return err
	}
	if faults > 0 {
		return fmt.Errorf("%s has faults, %d in all", c.databaseURL, faults)
	}
	_, err = fmt.Fprintf(stdout, "%s is sound\n", c.databaseURL)
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
