package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// The log has the cause of an error of the store, even if the error is wrapped.
func TestCausesAreLogged(t *testing.T) {
	st := openStore(t, pgtest.URL(t))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := st.Client(t.Context(), "12")
	known, ok := errors.AsType[*store.Error](err)
	if !ok || known.Unwrap() == nil {
		t.Fatal(err)
	}
	for _, err := range []error{err, fmt.Errorf("count: %w", err)} {
		var log lab.Log
		NewLog(&log, slog.LevelInfo, false).Warn("test", "error", err)
		for _, want := range []string{err.Error(), known.Unwrap().Error()} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q is missing in %s", want, &log)
			}
		}
	}
}
