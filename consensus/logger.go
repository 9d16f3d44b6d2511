package consensus

import (
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// logger gives what hashicorp's libraries log to slog, one level lower than they think: their Info is our Debug. What
// they repeat at every try is Debug too; observe.go says once what it means.
type logger struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*logger)(nil)

func newLogger(l *slog.Logger) *logger { return &logger{log: l} }

func levelOf(level hclog.Level, msg string) slog.Level {
	switch msg {
	case "failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries", "failed to contact",
		"failed to start pipeline replication to", "failed to make requestVote RPC", "failed to take snapshot",
		"peer has newer term, stopping replication", "appendEntries rejected, sending older logs",
		"failed to get previous log", "previous log term mis-match", "skipping application of old log",
		"heartbeat timeout reached, starting election", "Election timeout reached, restarting election",
		"rejecting vote request since we have a leader", "rejecting pre-vote request since we have a leader",
		"failed to accept connection", "failed to decode incoming command", "failed to flush response":
		return slog.LevelDebug
	}
	switch {
	case level >= hclog.Error:
		return slog.LevelError
	case level == hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// Log implements hclog.Logger.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	all := append(append([]any{}, l.args...), args...)
	for i, a := range all {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			all[i] = format(f)
		}
	}
	msg = "raft: " + msg
	switch levelOf(level, msg[len("raft: "):]) {
	case slog.LevelError:
		l.log.Error(msg, all...)
	case slog.LevelInfo:
		l.log.Info(msg, all...)
	default:
		l.log.Debug(msg, all...)
	}
}

// format is formatted only when it is written.
type format hclog.Format

// LogValue implements slog.LogValuer.
func (f format) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...))
}

// The rest implements hclog.Logger.

func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *logger) IsTrace() bool { return false }
func (l *logger) IsDebug() bool { return true }
func (l *logger) IsInfo() bool  { return true }
func (l *logger) IsWarn() bool  { return true }
func (l *logger) IsError() bool { return true }

func (l *logger) ImpliedArgs() []any { return l.args }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{log: l.log, name: l.name, args: append(append([]any{}, l.args...), args...)}
}

func (l *logger) Name() string { return l.name }
func (l *logger) Named(name string) hclog.Logger {
	return &logger{log: l.log, name: name, args: l.args}
}
func (l *logger) ResetNamed(name string) hclog.Logger { return l.Named(name) }
func (l *logger) SetLevel(hclog.Level)                {}
func (l *logger) GetLevel() hclog.Level               { return hclog.Debug }

func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *logger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

// lineWriter logs what a standard logger writes.
type lineWriter struct{ l *logger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Debug(string(p))
	return len(p), nil
}
