package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// drains is every container's output that is being drained. Each has a file, so that the next keeper goes on.
type drains struct {
	config  Config
	g       *errgroup.Group // the keeper's: drains end with it
	buffers sync.Pool
	dropped atomic.Uint64

	mu  sync.Mutex
	all map[string]*draining
}

type draining struct {
	drain
	log       *logFile
	stdin     *os.File
	pipes     []*os.File
	cancel    context.CancelFunc
	done      chan struct{} // closed when both streams are over
	full      atomic.Bool   // entries are being dropped, and that has been said
	mu        sync.Mutex
	followers map[*follower]bool
	over      bool // no follower can be added any more
}

func newDrains(c Config, g *errgroup.Group) *drains {
	return &drains{
		config:  c,
		g:       g,
		all:     map[string]*draining{},
		buffers: sync.Pool{New: func() any { return new(buffers) }},
	}
}

// buffers are one read's; they are only held while there is something to read, so idle containers cost none.
type buffers struct {
	in  [32 << 10]byte
	out []byte
}

func (d *drains) file(id string) string { return filepath.Join(d.config.dir(), id+".json") }

// add starts draining. The FIFOs exist; a container may already be writing. Adding what is there does nothing.
func (d *drains) add(ctx context.Context, spec drain) error {
	if spec.ID == "" || strings.ContainsAny(spec.ID, "/\x00") || strings.HasPrefix(spec.ID, ".") {
		return fmt.Errorf("invalid id %q", spec.ID)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.all[spec.ID]; old != nil {
		if old.drain != spec {
			return fmt.Errorf("%s is already drained from elsewhere", spec.ID)
		}
		return nil
	}
	x, err := d.open(spec)
	if err != nil {
		return err
	}
	if err := writeFile(d.file(spec.ID), spec); err != nil {
		d.config.Log.Warn("a restarted keeper will not find this drain", "id", spec.ID, "err", err)
	}
	d.startLocked(ctx, x)
	return nil
}

func (d *drains) open(spec drain) (*draining, error) {
	x := &draining{drain: spec, done: make(chan struct{}), followers: map[*follower]bool{}}
	x.log = &logFile{path: spec.Log, limit: d.config.LogSize, files: d.config.LogFiles}
	fail := func(err error) (*draining, error) {
		x.close()
		return nil, err
	}
	if spec.Stdin != "" {
		// Reading and writing, because a FIFO without a reader cannot be opened for writing alone.
		f, err := os.OpenFile(spec.Stdin, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			return fail(err)
		}
		x.stdin = f
	}
	for _, p := range []string{spec.Stdout, spec.Stderr} {
		if p == "" {
			x.pipes = append(x.pipes, nil)
			continue
		}
		f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return fail(err)
		}
		x.pipes = append(x.pipes, f)
	}
	return x, nil
}

// startLocked starts one goroutine a stream. Caller holds mu.
func (d *drains) startLocked(ctx context.Context, x *draining) {
	ctx, x.cancel = context.WithCancel(ctx)
	d.all[x.ID] = x
	var streams sync.WaitGroup
	for i, f := range x.pipes {
		if f == nil {
			continue
		}
		s := streamOut
		if i == 1 {
			s = streamErr
		}
		streams.Add(1)
		d.g.Go(func() error {
			defer streams.Done()
			if err := d.copy(ctx, x, f, s); err != nil && ctx.Err() == nil {
				d.config.Log.Warn("output is not drained any more", "id", x.ID, "stream", s.String(), "err", err)
			}
			return nil
		})
	}
	d.g.Go(func() error {
		streams.Wait()
		x.close()
		close(x.done)
		return nil
	})
}

// copy moves one stream into the log until its writers are gone or ctx ends. Before the first writer it waits: a FIFO
// that has none yet reads as ended.
func (d *drains) copy(ctx context.Context, x *draining, f *os.File, s stream) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	fr := framer{stream: s}
	for first := true; ; first = false {
		n, err := d.read(x, raw, &fr, first)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return d.last(x, f, &fr)
		}
		if err != nil || n == 0 {
			d.write(x, fr.flush(nil, true, time.Now()))
			return err
		}
	}
}

// read waits for output and writes it away. It returns 0 at the end of the stream.
func (d *drains) read(x *draining, raw interface {
	Read(func(uintptr) bool) error
}, fr *framer, first bool,
) (int, error) {
	var n int
	var rerr error
	err := raw.Read(func(fd uintptr) bool {
		b := d.buffers.Get().(*buffers)
		defer d.buffers.Put(b)
		n, rerr = unix.Read(int(fd), b.in[:])
		if errors.Is(rerr, unix.EAGAIN) || errors.Is(rerr, unix.EINTR) {
			first = false // there is a writer
			return false
		}
		if n == 0 && first && !hungUp(fd) {
			first = false
			return false
		}
		if n > 0 {
			d.take(x, fr, b, n)
		}
		return true
	})
	return max(n, 0), errors.Join(err, rerr)
}

// hungUp reports whether a FIFO has had a writer since it was opened and has none any more. Their coming and going may have
// woken the poller before anybody waited for it, and it would not wake again.
func hungUp(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLHUP != 0
}

func (d *drains) take(x *draining, fr *framer, b *buffers, n int) {
	b.out = fr.add(b.out[:0], b.in[:n], time.Now())
	d.write(x, b.out)
	x.publish(fr.stream, b.in[:n])
	if cap(b.out) > 128<<10 {
		b.out = nil
	}
}

// last takes what the pipe holds when draining is ended from outside, without waiting for more.
func (d *drains) last(x *draining, f *os.File, fr *framer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	ended := false
	err = raw.Control(func(fd uintptr) {
		b := d.buffers.Get().(*buffers)
		defer d.buffers.Put(b)
		for taken := 0; taken < 1<<20; { // a pipe holds at most this; one that is still written to is left
			n, err := unix.Read(int(fd), b.in[:])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				ended = err == nil
				return
			}
			taken += n
			d.take(x, fr, b, n)
		}
	})
	d.write(x, fr.flush(nil, ended, time.Now()))
	return err
}

func (d *drains) write(x *draining, entries []byte) {
	if x.Log == "" {
		return
	}
	err := x.log.write(entries)
	if err != nil {
		d.dropped.Add(uint64(len(entries)))
	}
	if was := x.full.Swap(err != nil); err != nil && !was {
		d.config.Log.Warn("dropping output", "id", x.ID, "err", err)
	}
}

// remove ends draining: what the pipes hold is still written, then the record is forgotten. It is no error if the id
// is not known.
func (d *drains) remove(ctx context.Context, id string) error {
	d.mu.Lock()
	x := d.all[id]
	delete(d.all, id)
	d.mu.Unlock()
	if x == nil {
		return nil
	}
	x.cancel()
	select {
	case <-x.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := os.Remove(d.file(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *drains) closeStdin(id string) error {
	x := d.get(id)
	if x == nil {
		return fmt.Errorf("%s is not drained", id)
	}
	x.mu.Lock()
	f := x.stdin
	x.stdin = nil
	spec := x.drain
	x.mu.Unlock()
	if f == nil {
		return nil
	}
	spec.Stdin = ""
	return errors.Join(writeFile(d.file(id), spec), f.Close())
}

func (d *drains) get(id string) *draining {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[id]
}

// restore goes on with what the keeper before this one drained.
func (d *drains) restore(ctx context.Context) {
	files, _ := filepath.Glob(filepath.Join(d.config.dir(), "*.json"))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range files {
		var spec drain
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &spec)
		}
		var x *draining
		if err == nil {
			x, err = d.open(spec)
		}
		if err != nil {
			// Its pod is gone: the FIFOs went with it.
			_ = os.Remove(path)
			continue
		}
		d.startLocked(ctx, x)
	}
}

func (d *drains) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

func (x *draining) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	var files []io.Closer
	if x.stdin != nil {
		files = append(files, x.stdin)
	}
	for _, f := range x.pipes {
		if f != nil {
			files = append(files, f)
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	x.stdin, x.pipes = nil, nil
	_ = x.log.close()
	x.over = true
	for f := range x.followers {
		close(f.frames)
	}
	x.followers = nil
}
