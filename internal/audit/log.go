package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where a Log is, and how much of it is kept. Dir is required.
type Config struct {
	Dir      string
	MaxBytes int64 // of a file, before the next one is begun; 0: 64 MiB
	Keep     int   // so many full files are kept; 0: 8
	Now      func() time.Time
	Log      *slog.Logger
}

const (
	current  = "audit.log"
	earlier  = "audit-"          // and when it was full
	stamp    = "20060102T150405" // UTC
	queue    = 4096              // records that wait to be written
	fileMode = 0o600
	patience = time.Second // between attempts to write where that fails
)

// Log writes records. Safe for concurrent use.
type Log struct {
	c       Config
	records chan Record
	done    chan struct{}
	seq     atomic.Uint64
	once    sync.Once
	closing chan struct{}
	stuck   atomic.Bool   // nothing was written for a while
	dropped atomic.Uint64 // records, since then

	// Only the writer uses what follows.
	file  *os.File
	out   *bufio.Writer
	size  int64
	prev  string
	lost  uint64
	since time.Time // of the failure to write that lasts
}

// Open goes on with the log in c.Dir, or begins one. What a crash cut off in the middle of a line is taken away, and that is noted.
func Open(c Config) (*Log, error) {
	c.MaxBytes, c.Keep = cmp.Or(c.MaxBytes, 64<<20), cmp.Or(c.Keep, 8)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{c: c, records: make(chan Record, queue), done: make(chan struct{}), closing: make(chan struct{})}
	note, err := l.begin()
	switch {
	case errors.Is(err, unix.ENOSPC): // as while it runs: nobody waits for room
		l.failed(err)
	case err != nil:
		return nil, fmt.Errorf("audit log: %w", err)
	case note != "":
		l.c.Log.Warn("audit log", "note", note)
		l.write(Record{Note: note})
	}
	go l.run()
	return l, nil
}

// begin finds the end of the log and opens it.
func (l *Log) begin() (note string, err error) {
	if err := os.MkdirAll(l.c.Dir, 0o700); err != nil {
		return "", err
	}
	if note, err = l.goOn(); err != nil {
		return "", err
	}
	return note, l.open()
}

// Write adds a record; Seq and Prev are set here, and Time when it is zero. It blocks for a moment while many wait to be written; where nothing is written
// any more, as on a disk that hangs, records are lost, and counted. After Close it does nothing.
func (l *Log) Write(r Record) {
	if r.Time.IsZero() {
		r.Time = l.c.Now()
	}
	select {
	case l.records <- r:
		return
	case <-l.closing:
		return
	default:
	}
	if l.stuck.Load() {
		l.dropped.Add(1)
		return
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case l.records <- r:
	case <-l.closing:
	case <-late.C:
		l.stuck.Store(true)
		l.dropped.Add(1)
	}
}

// Seq returns how many lines were ever written: what says so elsewhere shows when the newest ones are taken away.
func (l *Log) Seq() uint64 { return l.seq.Load() }

// Close writes what waits, and ends; it does not wait long for a disk that hangs.
func (l *Log) Close() {
	l.once.Do(func() { close(l.closing) })
	late := time.NewTimer(2 * patience)
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
		l.c.Log.Error("audit log: the last records could not be written in time")
	}
}

func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case r := <-l.records:
			l.write(r)
		case <-l.closing:
			for len(l.records) > 0 {
				l.write(<-l.records)
			}
			l.flush()
			if l.file != nil {
				_ = l.file.Close()
			}
			return
		}
		if len(l.records) == 0 {
			l.flush()
		}
	}
}

// write adds a line. Where that fails nothing waits for it: the records are counted as lost, and that is written as soon as can be.
func (l *Log) write(r Record) {
	if !l.since.IsZero() && !l.resume() {
		l.lost++
		return
	}
	if l.size >= l.c.MaxBytes {
		l.rotate()
	}
	if l.stuck.Load() {
		l.stuck.Store(false)
		if n := l.dropped.Swap(0); n > 0 {
			l.add(Record{Note: fmt.Sprintf("%d records were not written: the disk took none", n)})
		}
	}
	l.add(r)
}

func (l *Log) add(r Record) {
	r.Seq, r.Prev = l.seq.Load()+1, l.prev
	r.Time = r.Time.UTC()
	if r.Time.IsZero() {
		r.Time = l.c.Now().UTC()
	}
	r.shorten()
	text, hash, err := r.line()
	if err == nil {
		_, err = l.out.Write(text)
	}
	if err != nil {
		l.failed(err)
		l.lost++
		return
	}
	l.seq.Store(r.Seq)
	l.prev, l.size = hash, l.size+int64(len(text))
}

func (l *Log) flush() {
	if l.out == nil || !l.since.IsZero() {
		return
	}
	if err := l.out.Flush(); err != nil {
		l.failed(err)
	}
}

// failed gives the file up until resume reads how far it got.
func (l *Log) failed(err error) {
	l.c.Log.Error("audit log not written: requests are served all the same, and counted as lost", "err", err)
	l.since = l.c.Now()
}

// resume goes on with what is in the file, once it can be written again.
func (l *Log) resume() bool {
	if l.c.Now().Sub(l.since) < patience {
		return false
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	before := l.seq.Load()
	note, err := l.begin()
	if err != nil {
		l.since = l.c.Now()
		return false
	}
	l.since = time.Time{}
	if n := l.seq.Load(); n < before {
		l.lost += before - n
	}
	if note != "" {
		note = "; " + note
	}
	l.add(Record{Note: fmt.Sprintf("%d records could not be written%s", l.lost, note)})
	l.lost = 0
	return true
}

// goOn finds the end of what there is, and cuts off half a line.
func (l *Log) goOn() (note string, err error) {
	files, err := Files(l.c.Dir)
	if err != nil {
		return "", err
	}
	l.prev = ""
	l.seq.Store(0)
	for i := len(files) - 1; i >= 0; i-- {
		b, before, err := tail(files[i])
		if err != nil {
			return "", err
		}
		whole := bytes.LastIndexByte(b, '\n') + 1
		if whole < len(b) && (whole > 0 || before == 0) {
			note = fmt.Sprintf("%d bytes of a line that was not whole were taken away", len(b)-whole)
			if err := os.Truncate(files[i], before+int64(whole)); err != nil {
				return "", err
			}
		}
		if whole == 0 && before > 0 {
			whole = len(b) // one line that is longer than any of ours: bad
		}
		if whole == 0 {
			continue
		}
		last := b[:whole-1]
		r, hash, err := parse(last[bytes.LastIndexByte(last, '\n')+1:])
		if err != nil {
			// It is not for us to mend: what is there stays, and what comes does not pretend to follow it.
			aside := filepath.Join(l.c.Dir, earlier+l.c.Now().UTC().Format(stamp)+".bad")
			return fmt.Sprintf("the last line is bad: %v; the file is %s now", err, filepath.Base(aside)), os.Rename(files[i], aside)
		}
		l.seq.Store(r.Seq)
		l.prev = hash
		return note, nil
	}
	return note, nil
}

// tail returns the end of a file, longer than any line, and how much is before it.
func tail(path string) (b []byte, before int64, err error) {
	const most = 256 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	before = max(0, info.Size()-most)
	b = make([]byte, info.Size()-before)
	_, err = f.ReadAt(b, before)
	return b, before, err
}

func (l *Log) open() error {
	f, err := os.OpenFile(filepath.Join(l.c.Dir, current), os.O_CREATE|os.O_WRONLY|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.out, l.size = f, bufio.NewWriterSize(f, 64<<10), info.Size()
	return nil
}

// rotate begins the next file and removes those that are too many.
func (l *Log) rotate() {
	l.flush()
	if !l.since.IsZero() {
		return
	}
	err := l.file.Sync()
	if err == nil {
		err = os.Rename(filepath.Join(l.c.Dir, current), l.fullName())
	}
	_ = l.file.Close()
	if err == nil {
		err = l.open()
	}
	if err != nil {
		l.failed(err)
		return
	}
	files, err := Files(l.c.Dir)
	if err != nil {
		return
	}
	for _, f := range files[:max(0, len(files)-1-l.c.Keep)] {
		_ = os.Remove(f)
	}
}

// fullName is one that sorts after all others, even where the clock went back.
func (l *Log) fullName() string {
	name := earlier + l.c.Now().UTC().Format(stamp)
	return filepath.Join(l.c.Dir, fmt.Sprintf("%s-%020d.log", name, l.seq.Load()))
}

// Files returns the files of the log in a directory, the oldest first: by the number of their last line.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var full []string
	newest := false
	for _, e := range entries {
		switch name := e.Name(); {
		case name == current:
			newest = true
		case strings.HasPrefix(name, earlier) && strings.HasSuffix(name, ".log"):
			full = append(full, filepath.Join(dir, name))
		}
	}
	number := func(path string) string { return path[strings.LastIndexByte(path, '-')+1:] }
	slices.SortFunc(full, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	if newest {
		full = append(full, filepath.Join(dir, current))
	}
	return full, nil
}

// Read calls f with every record of the log in a directory, the oldest first, and returns what Verify does.
func Read(dir string, f func(Record)) (Summary, error) {
	var s Summary
	files, err := Files(dir)
	if err != nil {
		return s, err
	}
	if len(files) == 0 {
		return s, fmt.Errorf("no audit log in %s: %w", dir, fs.ErrNotExist)
	}
	for i, path := range files {
		if err := readFile(path, i == len(files)-1, &s, f); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Summary is what a log holds.
type Summary struct {
	Files       int
	First, Last uint64 // numbers of lines; those before First were removed as the log grew
	Head        string // hash of the last one
	Unfinished  bool   // the last line is being written, or was cut off
}

// Verify reads the log in a directory and reports the first line that is not as it was written, or does not follow the one before.
func Verify(dir string) (Summary, error) { return Read(dir, func(Record) {}) }

func readFile(path string, last bool, s *Summary, f func(Record)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s.Files++
	in := bufio.NewReader(file)
	for n := 1; ; n++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(text) > 0 {
				if !last {
					return fmt.Errorf("%s:%d: the line is not whole", path, n)
				}
				s.Unfinished = true
			}
			return nil
		}
		if err != nil {
			return err
		}
		r, hash, err := parse(text[:len(text)-1])
		switch {
		case err != nil:
			return fmt.Errorf("%s:%d: the line is not as it was written: %w", path, n, err)
		case s.Head != "" && (r.Prev != s.Head || r.Seq != s.Last+1):
			return fmt.Errorf("%s:%d: line number %d does not follow number %d: something between was removed, or put in", path, n, r.Seq, s.Last)
		case s.Head == "" && r.Seq == 1 && r.Prev != "":
			return fmt.Errorf("%s:%d: the first line follows another one", path, n)
		}
		if s.Head == "" {
			s.First = r.Seq
		}
		s.Last, s.Head = r.Seq, hash
		f(r)
	}
}
