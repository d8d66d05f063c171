package main

import (
	"log/slog"

	"github.com/agentevents/agentevents/server/internal/api"
)

// limitConnections leaves half of the files that the process may open to the store and to receivers' connections: the
// listeners share the other half. Without it, idle connections would keep the store from opening its file. openFiles is
// 0 if the number is not known.
func limitConnections(log *slog.Logger, limits api.Limits, openFiles uint64, listeners int) api.Limits {
	most := openFiles / 2 / uint64(listeners) //nolint:gosec // one or two
	if openFiles == 0 || most >= uint64(limits.Connections) {
		return limits
	}
	limits.Connections = int(most) //nolint:gosec // less than before
	limits.ConnectionsPerAddress = min(limits.ConnectionsPerAddress, limits.Connections)
	log.Warn("few open files allowed", "files", openFiles, "connections", limits.Connections)
	return limits
}
