package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// look brings what is observed up to date. When the runtime does not answer it says when to look again, and nothing is
// decided until then.
func (w *worker) look(ctx context.Context) (again time.Time) {
	held, err := w.n.cfg.Runtime.Pod(ctx, w.uid)
	now := w.n.cfg.Now()
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		w.lost = true
		t := w.mem.tries["look"]
		t.count++
		w.mem.tries["look"] = t
		if ctx.Err() == nil {
			w.log.Warn("pod not found out about, will retry", "err", err)
		}
		return now.Add(retryAfter(t.count))
	}
	delete(w.mem.tries, "look")
	w.lost = false
	first := !w.mem.held
	w.mem.held = err == nil
	w.mem.sandbox, w.mem.containers = held.Sandbox, held.Containers
	if !w.mem.sandbox.Running {
		w.mem.attached = false
	}
	for i := range w.mem.containers {
		c := &w.mem.containers[i]
		// Taken over with its past, if its pod still runs. Where that ended with the machine, nobody's container failed.
		if _, known := w.mem.streaks[c.Name]; first && !known && held.Sandbox.Running {
			w.mem.streaks[c.Name] = c.Streak
		}
		if c.State == runtime.Exited && c.Message == "" {
			c.Message = w.lastWords(c)
		}
	}
	w.mu.Lock()
	changed := w.sandbox != held.Sandbox || !slices.Equal(w.seen, held.Containers)
	if changed {
		w.seen, w.sandbox = slices.Clone(held.Containers), held.Sandbox
		close(w.changed)
		w.changed = make(chan struct{})
	}
	w.mu.Unlock()
	return time.Time{}
}

// Paths of a pod's files on this machine.

func (w *worker) logDir(container string) string { return filepath.Join(w.dir(), "logs", container) }

func (w *worker) logPath(container string, attempt int) string {
	return filepath.Join(w.logDir(container), strconv.Itoa(attempt)+".log")
}

func (w *worker) wordsPath(container string, attempt int) string {
	return filepath.Join(w.dir(), "containers", container, strconv.Itoa(attempt)+".termination")
}

// Bounds of a termination message, as in Kubernetes.
const (
	wordsMost    = 4096
	wordsLogMost = 2048
)

// lastWords returns a container's termination message.
func (w *worker) lastWords(c *runtime.Container) string {
	f, err := os.Open(w.wordsPath(c.Name, c.Attempt))
	if err == nil {
		defer f.Close()
		if b, err := io.ReadAll(io.LimitReader(f, wordsMost)); err == nil && len(b) > 0 {
			return string(b)
		}
	}
	spec, _ := containerOf(w.wanted(), c.Name)
	if spec == nil || spec.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError || c.ExitCode == 0 {
		return ""
	}
	return tail(w.logPath(c.Name, c.Attempt))
}

// tail returns the end of a container's log without its framing.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2*wordsLogMost {
		if _, err := f.Seek(-2*wordsLogMost, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*wordsLogMost))
	if err != nil {
		return ""
	}
	var out []byte
	for line := range bytes.Lines(b) {
		// TIME STREAM TAG TEXT
		if parts := bytes.SplitN(line, []byte(" "), 4); len(parts) == 4 && len(parts[2]) == 1 {
			text := parts[3]
			if parts[2][0] == 'P' {
				text = bytes.TrimSuffix(text, []byte("\n"))
			}
			out = append(out, text...)
		}
	}
	return string(out[max(0, len(out)-wordsLogMost):])
}
