package gossip

import (
	"log"
	"log/slog"
	"strings"
)

// quiet lets memberlist talk at debug level only: what matters of it arrives as states and errors, and a machine that is
// down would fill the log.
func quiet(l *slog.Logger) *log.Logger { return log.New(writer{l}, "", 0) }

type writer struct{ log *slog.Logger }

func (w writer) Write(line []byte) (int, error) {
	w.log.Debug("memberlist", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}
