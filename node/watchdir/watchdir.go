// Package watchdir follows a directory.
package watchdir

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"

	"shoal/internal/client"
)

// Follow makes a directory, if it is missing, and calls look at first and whenever something in it may have changed, until ctx ends. What goes wrong, look's
// errors too, is logged and tried again, and the directory is made anew when it was removed.
func Follow(ctx context.Context, dir string, log *slog.Logger, look func() error) error {
	retry := client.NewBackoff(100*time.Millisecond, 30*time.Second)
	for {
		err := follow(ctx, dir, retry, look)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Warn("a directory is not watched, will retry", "directory", dir, "err", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

func follow(ctx context.Context, dir string, retry *client.Backoff, look func() error) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if err := w.Add(dir); err != nil {
		return err
	}
	for {
		if err := look(); err != nil { // also at what came before the watch
			return err
		}
		select {
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watch was closed")
			}
			retry.Reset()
			if e.Name == dir && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				return errors.New("it was removed")
			}
		case err := <-w.Errors:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
