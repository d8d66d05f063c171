package main

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/agentevents/agentevents/server/internal/telemetry"
)

// The limit comes from the first of these that there is: GOMEMLIMIT, the cgroup, the machine.
func TestMemoryLimit(t *testing.T) {
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	broken := func() (uint64, error) { return 0, errors.New("permission denied") }
	small, large, endless := memlimit.Limit(1000<<20), memlimit.Limit(4000<<20), memlimit.Limit(1<<62)
	const before = 1 << 40
	for name, c := range map[string]struct {
		variable        string
		cgroup, machine memlimit.Provider
		limit           int64
		line            string
	}{
		"cgroup":                     {"", small, large, 900 << 20, "by=cgroup mib=900"},
		"cgroup alone":               {"", small, none, 900 << 20, "by=cgroup mib=900"},
		"no limit of the cgroup":     {"", none, large, 2000 << 20, "by=machine mib=2000"},
		"no cgroup to be read":       {"", broken, large, 2000 << 20, "by=machine mib=2000"},
		"cgroup larger than machine": {"", endless, large, 2000 << 20, "by=machine mib=2000"},
		"nothing known":              {"", none, none, before, "memory not limited"},
		"variable":                   {"2GiB", small, none, before, "by=GOMEMLIMIT limit=2GiB"},
		"variable that turns it off": {"off", small, none, before, "by=GOMEMLIMIT limit=off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(memoryVariable, c.variable)
			own := debug.SetMemoryLimit(before)
			defer debug.SetMemoryLimit(own)
			var log strings.Builder
			limitMemory(telemetry.NewLog(&log, slog.LevelInfo, false), c.cgroup, c.machine)
			if limit := debug.SetMemoryLimit(-1); limit != c.limit {
				t.Errorf("%d, want %d", limit, c.limit)
			}
			if !strings.Contains(log.String(), c.line) {
				t.Errorf("the log has %q, want %q", log.String(), c.line)
			}
		})
	}
}

// The server limits its memory when it starts.
func TestStartLimitsMemory(t *testing.T) {
	t.Setenv(memoryVariable, "")
	own := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(own)
	p := start(t)
	p.stop()
	p.waitForExit(5 * time.Second)
	if !strings.Contains(p.log.String(), "memory limited") && !strings.Contains(p.log.String(), "memory not limited") {
		t.Error(p.log.String())
	}
}
