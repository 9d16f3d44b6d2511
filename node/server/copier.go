package server

import (
	"bufio"
	"bytes"
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
// is, and goes on there when files were renamed or removed meanwhile. It must be closed.
type copier struct {
	w io.Writer
	o logOptions

	file    *os.File // where it is, and stays until it has all of it; nil at the beginning
	offset  int64
	written int64
	within  map[string]bool // streams whose last entry was a part of a line
}

func newCopier(w io.Writer, o logOptions) *copier {
	return &copier{w: w, o: o, within: map[string]bool{}}
}

// full reports whether as much was written as was asked for.
func (c *copier) full() bool { return c.o.limit >= 0 && c.written >= c.o.limit }

func (c *copier) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}

// files returns the files of a log that are there at one moment, oldest first. The caller closes them.
func files(path string) ([]*os.File, error) {
	const tries = 10 // logs are rotated every 10 MiB; who is as fast as that loses
	for try := 1; ; try++ {
		list, settled, err := filesOnce(path)
		if err != nil || settled || try == tries {
			slices.Reverse(list)
			return list, err
		}
		closeAll(list)
	}
}

// filesOnce opens the files from the newest to the oldest, the way that they are renamed: one that is renamed meanwhile is met
// twice, and none is missed. It has settled if no newer file came meanwhile.
func filesOnce(path string) (list []*os.File, settled bool, err error) {
	names, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil, false, err
	}
	numbers := []int{0, 1}
	for _, name := range names {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, path+".")); err == nil && n > 0 {
			numbers = append(numbers, n, n+1) // where it is renamed to meanwhile
		}
	}
	slices.Sort(numbers)
	first, err := os.Open(path) // while it is open, its number is no other file's
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err == nil {
		defer first.Close()
	}
	for _, i := range slices.Compact(numbers) {
		name := path
		if i > 0 {
			name = path + "." + strconv.Itoa(i)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(list)
			return nil, false, err
		}
		if len(list) > 0 && sameFile(list[len(list)-1], f) {
			_ = f.Close()
			continue
		}
		list = append(list, f)
	}
	last, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		closeAll(list)
		return nil, false, err
	}
	if err == nil {
		defer last.Close()
	}
	return list, first == nil && last == nil || first != nil && last != nil && sameFile(first, last), nil
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
	if err != nil {
		return err
	}
	defer func() { closeAll(list) }()
	next := 0
	switch {
	case c.file != nil:
		// What comes next was begun after the last was written to this one, even if this one is gone by now.
		if err := c.copy(); err != nil {
			return err
		}
		next = 1 + slices.IndexFunc(list, func(f *os.File) bool { return sameFile(f, c.file) })
	case len(list) > 0:
		var offset int64
		if next, offset, err = tailStart(list, c.o.tail); err != nil {
			return err
		}
		if list, err = c.enter(list, next, offset); err != nil {
			return err
		}
	}
	for next < len(list) && !c.full() {
		if list, err = c.enter(list, next, 0); err != nil {
			return err
		}
	}
	return nil
}

// enter goes on to one of the files, from an offset, and returns the others.
func (c *copier) enter(list []*os.File, i int, offset int64) ([]*os.File, error) {
	c.close()
	c.file, c.offset = list[i], offset
	return slices.Delete(list, i, i+1), c.copy()
}

// copy copies whole entries from where it is.
func (c *copier) copy() error {
	if _, err := c.file.Seek(c.offset, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c.file, 64<<10)
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
