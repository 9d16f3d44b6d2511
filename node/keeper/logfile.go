package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// logFile is one container's log: PATH, and older ones PATH.1 (newest) to PATH.n. It keeps entries whole.
type logFile struct {
	path  string
	limit int64
	files int

	mu   sync.Mutex
	f    *os.File // nil until it could be opened
	size int64
}

// write appends whole entries. When they cannot be written nothing of them stays in the file and they are lost.
func (l *logFile) write(entries []byte) error {
	if len(entries) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil && l.size > 0 && l.size+int64(len(entries)) > l.limit {
		// A failed rotation only makes the file longer.
		_ = l.rotateLocked()
	}
	if l.f == nil {
		if err := l.openLocked(); err != nil {
			return err
		}
	}
	n, err := l.f.Write(entries)
	l.size += int64(n)
	if err != nil && n > 0 {
		if terr := l.f.Truncate(l.size - int64(n)); terr == nil {
			l.size -= int64(n)
		}
	}
	return err
}

func (l *logFile) openLocked() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

func (l *logFile) rotateLocked() error {
	name := func(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }
	if l.files < 2 {
		if err := os.Remove(l.path); err != nil {
			return err
		}
	} else {
		for i := l.files - 2; i >= 1; i-- {
			if err := os.Rename(name(i), name(i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := os.Rename(l.path, name(1)); err != nil {
			return err
		}
	}
	err := l.f.Close()
	l.f = nil
	return err
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
