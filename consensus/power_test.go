package consensus

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// volatile is a file system that forgets what was not synced when the power goes, or a part of it.
type volatile struct {
	types.VFS
	rng *rand.Rand

	mu    sync.Mutex
	off   bool
	files []*volatileFile
}

// volatileFile keeps what was written in memory until it is synced.
type volatileFile struct {
	types.WritableFile
	v       *volatile
	pending []unsynced
}

type unsynced struct {
	at   int64
	data []byte
}

var errPower = errors.New("the power is off")

func (v *volatile) add(f types.WritableFile, err error) (types.WritableFile, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := &volatileFile{WritableFile: f, v: v}
	v.files = append(v.files, one)
	return one, err
}

func (v *volatile) Create(dir, name string, size uint64) (types.WritableFile, error) {
	return v.add(v.VFS.Create(dir, name, size))
}

func (v *volatile) OpenWriter(dir, name string) (types.WritableFile, error) {
	return v.add(v.VFS.OpenWriter(dir, name))
}

func (f *volatileFile) WriteAt(b []byte, at int64) (int, error) {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	if f.v.off {
		return 0, errPower
	}
	f.pending = append(f.pending, unsynced{at, append([]byte{}, b...)})
	return len(b), nil
}

// ReadAt reads what was written, synced or not.
func (f *volatileFile) ReadAt(b []byte, at int64) (int, error) {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	n, err := f.WritableFile.ReadAt(b, at)
	for _, p := range f.pending {
		for i, c := range p.data {
			if o := p.at + int64(i) - at; o >= 0 && o < int64(len(b)) {
				b[o] = c
				n = max(n, int(o)+1)
			}
		}
	}
	return n, err
}

func (f *volatileFile) Sync() error {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	if f.v.off {
		return errPower
	}
	for _, p := range f.pending {
		if _, err := f.WritableFile.WriteAt(p.data, p.at); err != nil {
			return err
		}
	}
	f.pending = nil
	return nil
}

// powerOff leaves of the writes that were not synced some, and of some a part, in any order: a disk keeps none.
func (v *volatile) powerOff() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.off = true
	var errs []error
	for _, f := range v.files {
		for _, i := range v.rng.Perm(len(f.pending)) {
			p := f.pending[i]
			_, err := f.WritableFile.WriteAt(p.data[:v.rng.Intn(len(p.data)+1)], p.at)
			errs = append(errs, err)
		}
		f.pending = nil
	}
	return errors.Join(errs...)
}

// volatileDisks are those of a cluster's peers.
type volatileDisks struct {
	rng *rand.Rand
	of  map[PeerID]*volatile
}

func (ds volatileDisks) use(cfg *Config) {
	v := &volatile{VFS: fs.New(), rng: ds.rng}
	ds.of[cfg.ID] = v
	cfg.disk = func(dir string, log *logger) (disk, error) {
		return wal.Open(dir, wal.WithSegmentSize(1<<16), wal.WithLogger(log), wal.WithSegmentFiler(walsegment.NewFiler(dir, v)))
	}
}

// TestPowerLossLosesNothingAcknowledged takes the power from some peers, or all, at any moment of a stream of writes, again and again.
func TestPowerLossLosesNothingAcknowledged(t *testing.T) {
	for _, n := range []int{1, 3} {
		for seed := range int64(3) {
			t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) {
				bubble(t, func(t *testing.T) { powerLoss(t, n, seed) })
			})
		}
	}
}

func powerLoss(t *testing.T, n int, seed int64) {
	rng := rand.New(rand.NewSource(seed))
	disks := volatileDisks{rng, map[PeerID]*volatile{}}
	c := newCluster(t, n, func(cfg *Config) {
		disks.use(cfg)
		cfg.Timing.SnapshotEvery, cfg.Timing.SnapshotLogs, cfg.Timing.TrailingLogs = 200*time.Millisecond, 50, 10
	})
	for round := range 4 {
		var writers sync.WaitGroup
		for w := range 3 {
			writes := 10 + rng.Intn(40)
			writers.Go(func() {
				for i := range writes {
					c.put(fmt.Sprint("k", w), fmt.Sprint(round, "-", i))
				}
			})
		}
		acked := map[string]string{}
		writers.Wait()
		for w := range 3 {
			acked[fmt.Sprint("k", w)] = c.get(c.master(), fmt.Sprint("k", w))
		}
		// What is on its way when the power goes may be lost, or not.
		var flight sync.WaitGroup
		m := c.master()
		flight.Go(func() {
			for i := 0; ; i++ {
				if _, err := m.Propose(t.Context(), putTxn("flight", fmt.Sprint(round, "-", i))); err != nil || i == 100 {
					return
				}
			}
		})
		rest(t.Context(), time.Duration(rng.Intn(3))*time.Millisecond)
		ids := c.all()
		rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		dark := ids[:1+rng.Intn(n)]
		for _, p := range dark {
			if err := disks.of[p.cfg.ID].powerOff(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range dark {
			c.stop(p.cfg.ID)
		}
		for _, p := range dark {
			c.start(p.cfg.ID, false)
		}
		flight.Wait()
		for key, want := range acked {
			if got := c.get(c.master(), key); got != want {
				t.Errorf("round %d: %s was acknowledged as %q and is %q", round, key, want, got)
			}
		}
		c.same()
	}
}

// TestADamagedLogIsNotReplayed changes one byte of a log that a peer left behind, anywhere. It must not start with something else than it
// had: it may miss the very end, which a crash can take, and no more.
func TestADamagedLogIsNotReplayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, nil)
		for i := range 40 {
			c.put(fmt.Sprint("k", i), strings.Repeat(fmt.Sprint("value ", i, " "), 5))
		}
		p := c.master()
		c.stop("p1")
		files, err := filepath.Glob(filepath.Join(p.cfg.Dir, "log", "*.wal"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		end := strings.LastIndex(string(whole), "value 39") + 100
		refused := 0
		for at := 32; at < end; at += 29 {
			bad := append([]byte{}, whole...)
			bad[at] ^= 0x10
			if err := os.WriteFile(files[0], bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := OpenSalvage(p.cfg)
			if err != nil {
				refused++
				continue
			}
			page, err := s.Store.List("k", "", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range page.KVs {
				i := strings.TrimPrefix(string(kv.Key), "k")
				if want := strings.Repeat("value "+i+" ", 5); string(kv.Value) != want {
					t.Errorf("byte %d changed: %s is %q", at, kv.Key, kv.Value)
				}
			}
			if len(page.KVs) < 39 {
				t.Errorf("byte %d changed: only %d of 40 values are left, and nothing is said", at, len(page.KVs))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if refused == 0 {
			t.Error("no change was noticed")
		}
		t.Logf("%d changes were noticed", refused)
	})
}

// TestANoteWithoutAChecksumIsRead: logs that older versions wrote.
func TestANoteWithoutAChecksumIsRead(t *testing.T) {
	d, err := openDisk(t.TempDir(), newLogger(Config{}.withDefaults().Log))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.StoreLog(&raft.Log{Index: 1, Term: 1, Data: []byte("x"), Extensions: []byte{noteBare, 7}}); err != nil {
		t.Fatal(err)
	}
	n := &noted{wal: d, slow: func() {}}
	var l raft.Log
	if commit, err := n.get(1, &l); err != nil || commit != 7 || string(l.Data) != "x" || l.Extensions != nil {
		t.Errorf("%d, %+v, %v", commit, l, err)
	}
}
