package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names in a volume that are ours: the link that everything is read through, and its successor.
const (
	current = "..data"
	next    = "..data_next"
)

// populated reports whether a payload was written to dir before.
func populated(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, current))
	return err == nil
}

// writePayload makes dir hold files. A reader sees all of the old content or all of the new: files are reached through
// one link that is replaced as a whole.
func writePayload(dir string, files map[string]file, gid *int64) error {
	old, err := os.Readlink(filepath.Join(dir, current))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old == "" || !same(filepath.Join(dir, old), files) {
		fresh, err := os.MkdirTemp(dir, "..v")
		if err != nil {
			return err
		}
		if err := fill(fresh, files, gid); err != nil {
			return errors.Join(err, os.RemoveAll(fresh))
		}
		link := filepath.Join(dir, next)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(filepath.Base(fresh), link); err != nil {
			return err
		}
		if err := os.Rename(link, filepath.Join(dir, current)); err != nil {
			return err
		}
		old = filepath.Base(fresh)
	}
	return tidy(dir, old, files)
}

// fill writes files into an empty directory.
func fill(dir string, files map[string]file, gid *int64) error {
	id := func(n *int64) int {
		if n == nil {
			return -1
		}
		return int(*n)
	}
	own := func(path string, user *int64, mode os.FileMode) error {
		if user != nil || gid != nil {
			if err := os.Chown(path, id(user), id(gid)); err != nil {
				return err
			}
		}
		return os.Chmod(path, mode)
	}
	if err := own(dir, nil, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return err
		}
		mode := os.FileMode(f.mode)
		if gid != nil {
			mode |= 0o440 // the group is there to read it
		}
		if err := own(path, f.user, mode&os.ModePerm); err != nil {
			return err
		}
	}
	return nil
}

// same reports whether dir holds exactly files.
func same(dir string, files map[string]file) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[name]
		if !ok {
			return fs.ErrNotExist
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.data) {
			return fs.ErrNotExist
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

// tidy makes the links that users see, and removes those and the data that are no more.
func tidy(dir, now string, files map[string]file) error {
	top := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		top[first] = true
	}
	for name := range top {
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(current, name), link); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if top[name] || name == current || name == now {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove what is no more: %w", err)
		}
	}
	return nil
}
