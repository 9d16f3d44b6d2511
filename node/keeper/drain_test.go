package keeper

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// pipes makes the FIFOs of one container and returns what the keeper is told of it.
func pipes(t *testing.T, dir, id string) drain {
	t.Helper()
	d := drain{ID: id, Log: filepath.Join(dir, id, "0.log")}
	d.Stdin, d.Stdout, d.Stderr = filepath.Join(dir, id+".in"), filepath.Join(dir, id+".out"), filepath.Join(dir, id+".err")
	for _, p := range []string{d.Stdin, d.Stdout, d.Stderr} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// keeping starts the draining half of a keeper; stop ends it as a keeper's end would.
func keeping(t *testing.T, dir string) (d *drains, ctx context.Context, stop func()) {
	t.Helper()
	c := Config{RunDir: dir, LogSize: 10 << 20, LogFiles: 5, Log: slog.New(slog.DiscardHandler)}
	if err := os.MkdirAll(c.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	d = newDrains(c, g)
	g.Go(func() error { <-ctx.Done(); return nil })
	stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return d, ctx, stop
}

// container opens the FIFO for writing as a shim does: it also holds it for reading, so that it never breaks.
func container(t *testing.T, path string) (w *os.File, end func()) {
	t.Helper()
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err = os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return w, func() { w.Close(); r.Close() }
}

// texts returns the lines of a log without time, stream and tag.
func texts(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 {
			t.Fatalf("entry %q", line)
		}
		out = append(out, f[3])
	}
	return out
}

func TestDrainEndsWithItsWriters(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	x := d.get("a")
	out, endOut := container(t, spec.Stdout)
	errs, endErr := container(t, spec.Stderr)
	fmt.Fprint(out, "hello\nhalf")
	endOut()
	fmt.Fprintln(errs, "oops")
	endErr()
	<-x.done
	b, _ := os.ReadFile(spec.Log)
	for _, want := range []string{" stdout F hello\n", " stdout F half\n", " stderr F oops\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in %q", want, b)
		}
	}
	if err := d.remove(ctx, "a"); err != nil || d.count() != 0 {
		t.Error(err, d.count())
	}
}

func TestNextKeeperGoesOnWithoutLoss(t *testing.T) {
	dir := t.TempDir()
	d, ctx, stop := keeping(t, dir)
	spec := pipes(t, dir, "a")
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	const lines = 30_000
	w, end := container(t, spec.Stdout)
	halfway, handedOver, written := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		for i := range lines {
			fmt.Fprintf(w, "line %d\n", i)
			if i == lines/3 {
				close(halfway)
			}
		}
		<-handedOver // the first keeper may have taken all; the next one could not tell an end from a beginning
		end()
	}()
	<-halfway
	stop()
	next, _, _ := keeping(t, dir)
	next.restore(t.Context())
	close(handedOver)
	x := next.get("a")
	if x == nil {
		t.Fatal("the next keeper does not know the drain")
	}
	<-written
	_, endErr := container(t, spec.Stderr)
	endErr()
	<-x.done
	var joined strings.Builder
	b, _ := os.ReadFile(spec.Log)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(line, " ", 4)
		text := f[3]
		if f[2] == "P" {
			text = strings.TrimSuffix(text, "\n")
		}
		joined.WriteString(text)
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if joined.String() != want.String() {
		t.Errorf("%d of %d bytes arrived in order", joined.Len(), want.Len())
	}
}

// TestAWriterThatIsGoneBeforeTheFirstReadIsNotWaitedFor has a stream's only writer come and go after the keeper has opened the
// stream and before it reads.
func TestAWriterThatIsGoneBeforeTheFirstReadIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	x, err := d.open(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{spec.Stdout, spec.Stderr} {
		_, end := container(t, path)
		end()
	}
	// A read that has to wait makes the poller take all that has happened until then.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := make(chan error)
	go func() {
		_, err := r.Read(make([]byte, 1))
		read <- err
	}()
	runtime.Gosched()
	w.Close()
	<-read
	d.mu.Lock()
	d.startLocked(ctx, x)
	d.mu.Unlock()
	<-x.done
}

func TestFullDiskDoesNotBlockTheContainer(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	spec.Log = "/dev/full"
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	w, end := container(t, spec.Stdout)
	if _, err := w.Write(bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)); err != nil {
		t.Fatal(err)
	}
	end()
	if err := d.remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if n := d.dropped.Load(); n < 1<<20 {
		t.Errorf("%d bytes dropped", n)
	}
}

func TestUndrainTakesWhatThePipeHolds(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	w, end := container(t, spec.Stdout)
	defer end()
	fmt.Fprintln(w, "before")
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "after")
	if err := d.remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, spec.Log); len(got) != 2 || got[0] != "before" || got[1] != "after" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(d.file("a")); err == nil {
		t.Error("the record outlives the drain")
	}
}

func TestSlowFollowerIsCutOff(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	f := d.get("a").follow()
	w, end := container(t, spec.Stdout)
	for range 3 * backlog {
		if _, err := w.Write(make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
	}
	end()
	n := 0
	for range f.frames {
		n++
	}
	if n > backlog {
		t.Errorf("%d frames were kept for it", n)
	}
}

func TestStdinStaysOpenUntilClosed(t *testing.T) {
	dir := t.TempDir()
	d, ctx, _ := keeping(t, dir)
	spec := pipes(t, dir, "a")
	if err := d.add(ctx, spec); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(spec.Stdin, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	w, err := os.OpenFile(spec.Stdin, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "typed")
	w.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(in, b); err != nil || string(b) != "typed" {
		t.Fatal(string(b), err)
	}
	if err := d.closeStdin("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(b); err != io.EOF {
		t.Errorf("got %v", err)
	}
}
