package server

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// copier copies a container's log, which is in several files, oldest first: PATH.2, PATH.1, PATH. It remembers where it
// is, and goes on there when files were renamed meanwhile.
type copier struct {
	w io.Writer
	o logOptions

	begun   bool
	file    fs.FileInfo // where it is; nil at the beginning
	offset  int64
	written int64
	within  map[string]bool // streams whose last entry was a part of a line
}

func newCopier(w io.Writer, o logOptions) *copier {
	return &copier{w: w, o: o, within: map[string]bool{}}
}

// full reports whether as much was written as was asked for.
func (c *copier) full() bool { return c.o.limit >= 0 && c.written >= c.o.limit }

// files returns the files of a log that are there, oldest first. The caller closes them.
func files(path string) ([]*os.File, error) {
	names, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil, err
	}
	age := func(name string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(name, path+"."))
		if err != nil {
			return -1
		}
		return n
	}
	names = slices.DeleteFunc(names, func(n string) bool { return age(n) < 1 })
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(age(b), age(a)) })
	var out []*os.File
	for _, name := range append(names, path) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(out)
			return nil, err
		}
		// Renamed between the listing and now: the same file twice.
		if len(out) == 0 || !sameFile(out[len(out)-1], f) {
			out = append(out, f)
		} else {
			_ = f.Close()
		}
	}
	return out, nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

func closeAll(list []*os.File) {
	for _, f := range list {
		_ = f.Close()
	}
}

// catchUp copies everything that is there and was not copied.
func (c *copier) catchUp(path string) error {
	list, err := files(path)
	if err != nil || len(list) == 0 {
		return err
	}
	defer closeAll(list)
	at := 0
	switch {
	case !c.begun:
		c.begun = true
		if at, c.offset, err = tailStart(list, c.o.tail); err != nil {
			return err
		}
	case c.file != nil:
		// Where it was may be gone by now; then the oldest that is left comes next.
		found := slices.IndexFunc(list, func(f *os.File) bool {
			info, err := f.Stat()
			return err == nil && os.SameFile(info, c.file)
		})
		if found < 0 {
			c.offset = 0
		} else {
			at = found
		}
	}
	for i := at; i < len(list) && !c.full(); i++ {
		if i > at {
			c.offset = 0
		}
		if c.file, err = list[i].Stat(); err != nil {
			return err
		}
		if err := c.copy(list[i]); err != nil {
			return err
		}
	}
	return nil
}

// copy copies whole entries from where it is in f.
func (c *copier) copy(f *os.File) error {
	if _, err := f.Seek(c.offset, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	for !c.full() {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // half an entry is read again when it is whole
		}
		if err != nil {
			return err
		}
		c.offset += int64(len(line))
		if err := c.entry(line); err != nil {
			return err
		}
	}
	return nil
}

// entry writes one entry: TIME STREAM TAG TEXT.
func (c *copier) entry(line []byte) error {
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || !ok3 {
		return fmt.Errorf("not a log entry: %.60q", line)
	}
	name := string(stream)
	if c.o.stream != "" && c.o.stream != name {
		return nil
	}
	partial := bytes.HasPrefix(tag, []byte("P"))
	first := !c.within[name]
	c.within[name] = partial
	if !c.o.since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && t.Before(c.o.since) {
			return nil
		}
	}
	if partial {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	if c.o.timestamps && first {
		if err := c.write(append(slices.Clone(stamp), ' ')); err != nil {
			return err
		}
	}
	return c.write(text)
}

func (c *copier) write(b []byte) error {
	if c.o.limit >= 0 {
		b = b[:min(int64(len(b)), c.o.limit-c.written)]
	}
	n, err := c.w.Write(b)
	c.written += int64(n)
	return err
}

// tailStart returns in which file, and where in it, the last n entries begin.
func tailStart(list []*os.File, n int64) (file int, offset int64, err error) {
	if n < 0 {
		return 0, 0, nil
	}
	for i := len(list) - 1; i >= 0; i-- {
		info, err := list[i].Stat()
		if err != nil {
			return 0, 0, err
		}
		at, lines, err := lastLines(list[i], info.Size(), n)
		if err != nil {
			return 0, 0, err
		}
		if lines >= n {
			return i, at, nil
		}
		n -= lines
	}
	return 0, 0, nil
}

// lastLines returns where the last n lines of f begin, or 0 and how many there are when there are fewer.
func lastLines(f *os.File, size, n int64) (at, lines int64, err error) {
	if n == 0 {
		return size, 0, nil
	}
	const block = 32 << 10
	buf := make([]byte, block)
	var found int64
	for end := size; end > 0; {
		start := max(0, end-block)
		b := buf[:end-start]
		if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' {
				continue
			}
			// A newline ends a line: the nth line from the end begins after the one before it.
			if found++; found == n+1 {
				return start + int64(i) + 1, n, nil
			}
		}
		end = start
	}
	return 0, found, nil
}
