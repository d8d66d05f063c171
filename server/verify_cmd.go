package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/agentevents/agentevents/store"
)

// longestDelay is the longest retry delay that any configuration allows, including jitter. The configuration that
// served the store is unknown.
const longestDelay = 48 * time.Hour

type verifyCommand struct{ storeSettings }

// run prints each check of the store with its faults. If there is a fault, run returns an error.
func (v verifyCommand) run(ctx context.Context, stdout io.Writer) error {
	o, err := v.options()
	if err != nil {
		return err
	}
	o.Longest = longestDelay
	faults := 0
	err = store.Verify(ctx, o, func(check store.Check) {
		faults += check.Count
		printCheck(stdout, check)
	})
	if err != nil {
		return err
	}
	if faults > 0 {
		return fmt.Errorf("%s is inconsistent: %d faults", store.Redacted(o.URL), faults)
	}
	_, err = fmt.Fprintf(stdout, "%s is consistent\n", store.Redacted(o.URL))
	return err
}

// printCheck prints a line for the check, and a line for each fault.
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
