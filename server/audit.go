package main

import (
	"context"
	"io"
	"log/slog"
	"os/user"

	"github.com/agentevents/agentevents/server/internal/telemetry"
)

// audit logs a command that has changed the store, in the form of the server's log and with the names of operations of
// openapi.yaml. As with requests, the line has no secret. A command that fails has changed nothing.
func audit(stderr io.Writer, operation string, attrs ...slog.Attr) {
	by := ""
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	attrs = append([]slog.Attr{slog.String("operation", operation), slog.String("user", by)}, attrs...)
	telemetry.NewLog(stderr, slog.LevelInfo, false).LogAttrs(context.Background(), slog.LevelInfo, "command", attrs...)
}
