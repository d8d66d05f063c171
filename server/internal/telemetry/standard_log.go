package telemetry

import (
	"log"
	"log/slog"
	"strings"
)

// RedirectStandardLog sends the lines of package log to a log. Libraries write some there, such as net/http about a
// receiver that sends more than its answer. The lines are limited, since a receiver can cause any number of them. Each
// ends before its first quotation mark, since it may quote a receiver.
func RedirectStandardLog(to *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(standardLog{to, NewLineLimiter(to, "of libraries")})
}

type standardLog struct {
	log   *slog.Logger
	lines *LineLimiter
}

// Write implements io.Writer.
func (s standardLog) Write(line []byte) (int, error) {
	if s.lines.Allow() {
		text, _, _ := strings.Cut(string(line), `"`)
		s.log.Info("library message", "text", cut(strings.TrimSpace(text), maxPath))
	}
	return len(line), nil
}
