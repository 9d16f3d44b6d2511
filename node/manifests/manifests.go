// Package manifests reads the directory whose files are pods of this machine. It knows names and contents only: what they mean is the node's business.
package manifests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"shoal/node/watchdir"
)

// most is the length of the longest file that is read, the API's for one object.
const most = 3 << 20

// Directory is a directory of manifests. Safe for concurrent use.
type Directory struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	changed chan struct{}
}

// New returns a directory that nobody watches yet. log may be nil.
func New(path string, log *slog.Logger) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Directory{path: path, log: log, changed: make(chan struct{})}
}

// Files returns the contents of the directory's files by name, with a channel that is closed when there may be others. Hidden files and directories are
// none of them. A directory that does not exist is empty. What cannot be read is an error of its own; the others are returned all the same.
func (d *Directory) Files() (map[string][]byte, <-chan struct{}, error) {
	d.mu.Lock()
	changed := d.changed
	d.mu.Unlock()
	out := map[string][]byte{}
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, changed, nil
	}
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		b, err := read(filepath.Join(d.path, e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since, or a link that leads nowhere
		case err != nil:
			errs = append(errs, err)
		case b != nil:
			out[e.Name()] = b
		}
	}
	return out, changed, errors.Join(errs...)
}

// read returns nil for what is no file.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: a pipe would wait for its writer
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return b, err
}

// Run makes the directory and watches it until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	return watchdir.Follow(ctx, d.path, d.log, func() error {
		d.tell()
		return nil
	})
}

func (d *Directory) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}
