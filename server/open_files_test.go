package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/api"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/server/lab"
)

func TestConnectionsLeaveOpenFiles(t *testing.T) {
	for _, c := range []struct {
		files            uint64
		listeners        int
		all, fromAddress int
		line             string
	}{
		{1 << 20, 2, 5000, 1000, ""},
		{20_000, 2, 5000, 1000, ""},
		{4096, 1, 2048, 1000, `msg="few open files allowed" files=4096 connections=2048`},
		{4096, 2, 1024, 1000, "connections=1024"},
		{1024, 1, 512, 512, "connections=512"},
		{0, 2, 5000, 1000, ""},
	} {
		out := &lab.Log{}
		got := limitConnections(telemetry.NewLog(out, slog.LevelInfo, false), api.DefaultLimits(), c.files, c.listeners)
		if got.Connections != c.all || got.ConnectionsPerAddress != c.fromAddress {
			t.Errorf("%d files, %d listeners: %d connections, %d of an address", c.files, c.listeners, got.Connections,
				got.ConnectionsPerAddress)
		}
		if line := out.String(); !strings.Contains(line, c.line) || c.line == "" && line != "" {
			t.Errorf("%d files: the log has %q, want %q", c.files, line, c.line)
		}
	}
}

func TestOpenFilesAreKnown(t *testing.T) {
	if n := maxOpenFiles(); n != 0 && n < 64 {
		t.Errorf("%d files may be open", n)
	}
}
