package clienttest

import (
	"context"
	"log/slog"
	"testing"

	"shoal/internal/client"
)

// Logger returns one that writes to h, and fails the test when a loop has panicked, which the loop itself survives.
func Logger(t testing.TB, h slog.Handler) *slog.Logger { return slog.New(noPanics{h, t}) }

type noPanics struct {
	slog.Handler
	t testing.TB
}

func (n noPanics) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError || n.Handler.Enabled(ctx, l)
}

func (n noPanics) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == client.Panicked {
		r.Attrs(func(a slog.Attr) bool {
			n.t.Errorf("%s: %s", a.Key, a.Value)
			return true
		})
	}
	if !n.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return n.Handler.Handle(ctx, r)
}

func (n noPanics) WithAttrs(a []slog.Attr) slog.Handler { return noPanics{n.Handler.WithAttrs(a), n.t} }
func (n noPanics) WithGroup(g string) slog.Handler      { return noPanics{n.Handler.WithGroup(g), n.t} }
