package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// clock is a time that moves when told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func fill(t testing.TB, c Config, n int) {
	t.Helper()
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		l.Write(Record{User: fmt.Sprintf("user-%d", i), Verb: "create", Resource: "pods", Decision: Allow, Code: 201, Revision: "7"})
	}
	l.Close()
	l.Write(Record{User: "late"}) // does nothing
}

func verify(t *testing.T, dir string, first, last uint64) Summary {
	t.Helper()
	s, err := Verify(dir)
	if err != nil || s.First != first || s.Last != last {
		t.Fatalf("%+v, %v, want lines %d to %d", s, err, first, last)
	}
	return s
}

func TestALogGoesOn(t *testing.T) {
	c := Config{Dir: t.TempDir(), Now: newClock().now}
	fill(t, c, 3)
	verify(t, c.Dir, 1, 3)
	fill(t, c, 2)
	verify(t, c.Dir, 1, 5)
	var names []string
	if _, err := Read(c.Dir, func(r Record) { names = append(names, r.User) }); err != nil || strings.Join(names, " ") != "user-0 user-1 user-2 user-0 user-1" {
		t.Errorf("%v, %v", names, err)
	}
	if info, err := os.Stat(filepath.Join(c.Dir, current)); err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestALogIsRotated: full files are renamed, the oldest removed, and the chain goes through all of them, also where the clock goes back.
func TestALogIsRotated(t *testing.T) {
	now := newClock()
	c := Config{Dir: t.TempDir(), MaxBytes: 1000, Keep: 3, Now: now.now}
	for range 5 {
		fill(t, c, 6)
		now.pass(-time.Hour)
	}
	s, err := Verify(c.Dir)
	if err != nil || s.Files != 4 || s.First < 10 || s.Last != 30 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestWhatIsChangedIsFound, wherever it is.
func TestWhatIsChangedIsFound(t *testing.T) {
	c := Config{Dir: t.TempDir(), MaxBytes: 900, Now: newClock().now}
	fill(t, c, 10)
	files, err := Files(c.Dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	verify(t, c.Dir, 1, 10)
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(b, []byte("\n")) }
	for name, change := range map[string]func(all [][]byte) [][]byte{
		"a name": func(all [][]byte) [][]byte {
			all[1] = bytes.Replace(all[1], []byte("user-"), []byte("evil-"), 1)
			return all
		},
		"a line less":     func(all [][]byte) [][]byte { return append(all[:1:1], all[2:]...) },
		"a line twice":    func(all [][]byte) [][]byte { return append([][]byte{all[0]}, all...) },
		"two lines moved": func(all [][]byte) [][]byte { all[0], all[1] = all[1], all[0]; return all },
		"rubbish":         func(all [][]byte) [][]byte { return append(all, []byte("rubbish\n")) },
		"an empty line":   func(all [][]byte) [][]byte { return append([][]byte{[]byte("\n")}, all...) },
		"a line with a new hash": func(all [][]byte) [][]byte {
			r, _, err := parse(bytes.TrimSuffix(all[0], []byte("\n")))
			if err != nil {
				t.Fatal(err)
			}
			r.User = "evil"
			text, _, _ := r.line()
			all[0] = text
			return all
		},
	} {
		whole, err := os.ReadFile(files[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[1], bytes.Join(change(lines(bytes.Clone(whole))), nil), fileMode); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(c.Dir); err == nil || !strings.Contains(err.Error(), files[1]+":") && !strings.Contains(err.Error(), files[2]+":") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(files[1], whole, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(c.Dir); err == nil || !strings.Contains(err.Error(), "something between was removed") {
		t.Errorf("a file less: %v", err)
	}
}

// TestHalfALineIsTakenAway: a crash at any byte leaves a log that goes on, and says so.
func TestHalfALineIsTakenAway(t *testing.T) {
	c := Config{Dir: t.TempDir(), Now: newClock().now}
	fill(t, c, 2)
	path := filepath.Join(c.Dir, current)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for cut := 0; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], fileMode); err != nil {
			t.Fatal(err)
		}
		fill(t, c, 1)
		want, note := uint64(1), cut != 0 && cut != first
		if cut >= first {
			want = 2
		}
		if note {
			want++
		}
		notes := 0
		s, err := Read(c.Dir, func(r Record) {
			if strings.Contains(r.Note, "not whole") {
				notes++
			}
		})
		if err != nil || s.Last != want || (notes == 1) != note {
			t.Fatalf("cut at %d of %d: %+v, %d notes, %v", cut, len(whole), s, notes, err)
		}
	}
}

// TestALongFileGoesOn from its end alone.
func TestALongFileGoesOn(t *testing.T) {
	c := Config{Dir: t.TempDir(), Now: newClock().now}
	fill(t, c, 3000)
	path := filepath.Join(c.Dir, current)
	if info, err := os.Stat(path); err != nil || info.Size() < 600<<10 {
		t.Fatalf("%v, %v: not long enough", info, err)
	}
	fill(t, c, 1)
	verify(t, c.Dir, 1, 3001)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"half`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	fill(t, c, 1)
	verify(t, c.Dir, 1, 3003)
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), fileMode); err != nil {
		t.Fatal(err)
	}
	fill(t, c, 1)
	if bad, _ := filepath.Glob(filepath.Join(c.Dir, "*.bad")); len(bad) != 1 {
		t.Errorf("put aside: %v", bad)
	}
}

// TestABadEndIsPutAside: the log that follows does not pretend that it was right.
func TestABadEndIsPutAside(t *testing.T) {
	c := Config{Dir: t.TempDir(), Now: newClock().now}
	fill(t, c, 2)
	path := filepath.Join(c.Dir, current)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(whole, []byte("user-1"), []byte("user-9")), fileMode); err != nil {
		t.Fatal(err)
	}
	fill(t, c, 1)
	var note string
	if _, err := Read(c.Dir, func(r Record) { note += r.Note }); err != nil || !strings.Contains(note, "the last line is bad") {
		t.Errorf("%q, %v", note, err)
	}
	if bad, _ := filepath.Glob(filepath.Join(c.Dir, "*.bad")); len(bad) != 1 {
		t.Errorf("put aside: %v", bad)
	}
}

// TestAFullDisk loses records, counts them, and goes on.
func TestAFullDisk(t *testing.T) {
	now := newClock()
	c := Config{Dir: t.TempDir(), Now: now.now}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	wait := func() { // until all before is written, and as many again as wait
		t.Helper()
		for range 2 * queue {
			l.Write(Record{User: "filler"})
		}
	}
	l.Write(Record{User: "first"})
	wait()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	l.Close()
	l.file, l.done, l.closing, l.once = full, make(chan struct{}), make(chan struct{}), sync.Once{}
	l.out.Reset(full)
	go l.run()
	wait() // more than the buffer takes
	now.pass(2 * patience)
	l.Write(Record{User: "last"})
	l.Close()
	var note, last string
	if _, err := Read(c.Dir, func(r Record) {
		if r.Note != "" {
			note = r.Note
		}
		last = r.User
	}); err != nil || !strings.Contains(note, "records could not be written") || last != "last" {
		t.Errorf("note %q, last %q, %v", note, last, err)
	}
}

// TestADiskWithoutRoom keeps nobody from starting; the log begins when there is room.
func TestADiskWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "nr_inodes=1"); err != nil {
		t.Skip("mounts need root:", err)
	}
	defer func() { _ = unix.Unmount(dir, 0) }()
	now := newClock()
	l, err := Open(Config{Dir: filepath.Join(dir, "audit"), Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		l.Write(Record{User: "lost"})
	}
	for len(l.records) > 0 {
		runtime.Gosched()
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT, "nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	now.pass(2 * patience)
	l.Write(Record{User: "kept"})
	l.Close()
	var all string
	if _, err := Read(filepath.Join(dir, "audit"), func(r Record) { all += r.Note + r.User + ";" }); err != nil || !strings.Contains(all, "records could not be written") || !strings.HasSuffix(all, "kept;") {
		t.Errorf("%q, %v", all, err)
	}
}

// TestADiskThatHangs holds nobody up for long; what is lost is counted, and noted when it goes on.
func TestADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "audit")
		l, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		// Nobody takes what is written.
		l.done, l.closing, l.once = make(chan struct{}), make(chan struct{}), sync.Once{}
		begun := time.Now()
		const lost = 500
		for range queue + lost {
			l.Write(Record{User: "jane"})
		}
		if took := time.Since(begun); took > patience {
			t.Errorf("held up for %s", took)
		}
		if err := l.open(); err != nil {
			t.Fatal(err)
		}
		go l.run()
		l.Close()
		var notes string
		s, err := Read(dir, func(r Record) { notes += r.Note })
		if err != nil || s.Last != queue+1 || !strings.Contains(notes, "500 records were not written") {
			t.Errorf("%+v, %q, %v", s, notes, err)
		}
		// Nor does it hold up the end.
		l.done, l.closing, l.once = make(chan struct{}), make(chan struct{}), sync.Once{}
		l.Close()
	})
}

func TestWhatClientsChooseHasAnEnd(t *testing.T) {
	c := Config{Dir: t.TempDir(), Now: newClock().now}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	l.Write(Record{User: strings.Repeat("u", 1<<20), Path: "/\n\"\x00\xff", Groups: strings.Split(strings.Repeat("g,", 10_000), ",")})
	l.Close()
	if info, err := os.Stat(filepath.Join(c.Dir, current)); err != nil || info.Size() > 4000 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	verify(t, c.Dir, 1, 1)
}

func FuzzParse(f *testing.F) {
	r := Record{Seq: 1, User: "u"}
	text, _, err := r.line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimSuffix(text, []byte("\n")))
	f.Add([]byte(`{},"hash":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, hash, err := parse(b); err == nil && len(hash) != 64 {
			t.Errorf("%q is taken for a line", b)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r := Record{User: "jane", Groups: []string{"system:authenticated"}, From: "192.0.2.1:5000", Verb: "create", Resource: "pods", Namespace: "team", Name: "web", Decision: Allow, Code: 201, Revision: "123456"}
	b.ReportAllocs()
	for b.Loop() {
		l.Write(r)
	}
}
