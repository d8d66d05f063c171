package main

import (
	"context"
	"io"
	"log/slog"
	"os/user"

	"github.com/agentevents/agentevents/server/internal/telemetry"
)

// commandLog returns the log of a command, in the format of the server's. serve has a log of its own.
func commandLog(stderr io.Writer, set vars) *slog.Logger {
	return telemetry.NewLog(stderr, slog.LevelInfo, set[variable("log-format")] == "json")
}

// audit logs a command that has changed the store, with the names of operations of openapi.yaml. As with requests, the
// line has no secret. A command that fails has changed nothing.
func audit(log *slog.Logger, operation string, attrs ...slog.Attr) {
	by := ""
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	attrs = append([]slog.Attr{slog.String("operation", operation), slog.String("user", by)}, attrs...)
	log.LogAttrs(context.Background(), slog.LevelInfo, "command", attrs...)
}
