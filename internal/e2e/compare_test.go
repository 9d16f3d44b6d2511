//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// kept is a store of objects by name, as the comparison sees it. Everything goes to a member that does not lead.
type kept interface {
	create(ctx context.Context, client int, name string, size int) error
	get(ctx context.Context, client int, name string) error
	// list reads all objects and returns how many there are.
	list(ctx context.Context) (int, error)
	// watch follows all objects at another member; see etcd.Conn.Watch.
	watch(ctx context.Context, client int, created func(), f func(name string)) error
	// cpu is what the members have used so far.
	cpu(t *testing.T) time.Duration
}

// objectSize is that of a ConfigMap's value, or of etcd's. What surrounds the value comes on top: about 150 bytes of JSON.
const objectSize = 1024

// TestBesideEtcd compares three peers and the Kubernetes API with three members of etcd and bare values: same clients, sizes, connections and
// cores, TLS everywhere. In an ordinary test run it only shows that the comparison works; with SHOAL_COMPARE=full it counts.
func TestBesideEtcd(t *testing.T) {
	load := comparison{creates: []int{50, 500, 1000}, gets: 500, objects: 1000, events: 20, watches: 50}
	if os.Getenv("SHOAL_COMPARE") == "full" {
		load = comparison{creates: []int{2000, 10000, 20000}, gets: 10000, objects: 10000, events: 200, watches: 1000}
	}
	var rows [2][]figure
	t.Run("etcd", func(t *testing.T) { rows[0] = load.run(t, startEtcd(t)) })
	t.Run("shoal", func(t *testing.T) { rows[1] = load.run(t, startShoal(t)) })
	if t.Failed() {
		return
	}
	for i, theirs := range rows[0] {
		ours := rows[1][i]
		t.Logf("FIGURES %-44s etcd %9.2f  shoal %9.2f  %-12s ratio %.2f", ours.what, theirs.value, ours.value, ours.unit, ours.value/theirs.value)
	}
}

type figure struct {
	what, unit string
	value      float64
}

// comparison is how much is done.
type comparison struct {
	creates                        []int // with 1, 16 and 128 clients
	gets, objects, events, watches int
}

func (l comparison) run(t *testing.T, k kept) (all []figure) {
	add := func(what, unit string, v float64) { all = append(all, figure{what, unit, v}) }
	made := 0
	for i, clients := range []int{1, 16, 128} {
		times := parallel(t, clients, l.creates[i], func(ctx context.Context, client, n int) error {
			return k.create(ctx, client, fmt.Sprintf("c%d-%d", clients, n), objectSize)
		})
		made += l.creates[i]
		add(fmt.Sprintf("creates/s, %d clients", clients), "/s", float64(len(times.each))/times.took.Seconds())
		add(fmt.Sprintf("create p50, %d clients", clients), "ms", times.at(0.5))
		add(fmt.Sprintf("create p99, %d clients", clients), "ms", times.at(0.99))
	}
	times := parallel(t, 16, l.gets, func(ctx context.Context, client, n int) error {
		return k.get(ctx, client, fmt.Sprintf("c16-%d", n%l.creates[1]))
	})
	add("gets/s, 16 clients", "/s", float64(len(times.each))/times.took.Seconds())
	add("get p50, 16 clients", "ms", times.at(0.5))
	add("get p99, 16 clients", "ms", times.at(0.99))
	parallel(t, 16, max(0, l.objects-made), func(ctx context.Context, client, n int) error {
		return k.create(ctx, client, fmt.Sprintf("more-%d", n), objectSize)
	})
	made = max(made, l.objects)
	times = parallel(t, 1, 5, func(ctx context.Context, _, _ int) error {
		n, err := k.list(ctx)
		if err == nil && n != made {
			err = fmt.Errorf("%d of %d objects were listed", n, made)
		}
		return err
	})
	add(fmt.Sprintf("list of %d, per 10,000", made), "ms", times.at(0.5)*10000/float64(made))
	delays, _ := l.follow(t, k, "one", 1)
	add("event elsewhere after create was sent, p50", "ms", delays.at(0.5))
	add("event elsewhere after create was sent, p99", "ms", delays.at(0.99))
	_, cpu := l.follow(t, k, "many", l.watches)
	add(fmt.Sprintf("CPU of an event to each of %d watches", l.watches), "µs", float64(cpu.Microseconds())/float64(l.events*l.watches))
	return all
}

// timed are how long some calls took, sorted, and all of them together.
type timed struct {
	each []time.Duration
	took time.Duration
}

func (d timed) at(q float64) float64 {
	if len(d.each) == 0 {
		return 0
	}
	return float64(d.each[min(len(d.each)-1, int(q*float64(len(d.each))))].Microseconds()) / 1000
}

// parallel makes n calls from some clients.
func parallel(t *testing.T, clients, n int, call func(ctx context.Context, client, n int) error) timed {
	t.Helper()
	d := timed{each: make([]time.Duration, n)}
	var next atomic.Int64
	var wg sync.WaitGroup
	started := time.Now()
	for c := range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				begun := time.Now()
				err := call(ctx, c, i)
				d.each[i] = time.Since(begun)
				cancel()
				if err != nil {
					t.Errorf("call %d of client %d: %v", i, c, err)
					return
				}
			}
		})
	}
	wg.Wait()
	d.took = time.Since(started)
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(d.each)
	return d
}

// follow creates objects, 50 a second, under some watches. It returns how long each took to come to the first watch, and the
// CPU that the members took until all of them had come to all.
func (l comparison) follow(t *testing.T, k kept, prefix string, watches int) (timed, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var (
		ready, over sync.WaitGroup
		arrived     atomic.Int64
		mu          sync.Mutex
		sent        = map[string]time.Time{}
		d           timed
		all         = make(chan struct{})
	)
	ready.Add(watches)
	for w := range watches {
		over.Go(func() {
			created := sync.OnceFunc(ready.Done)
			defer created() // nobody waits for one that failed
			err := k.watch(ctx, w, created, func(name string) {
				now := time.Now()
				if !strings.HasPrefix(name, prefix) {
					return
				}
				if w == 0 {
					mu.Lock()
					d.each = append(d.each, now.Sub(sent[name]))
					mu.Unlock()
				}
				if arrived.Add(1) == int64(l.events*watches) {
					close(all)
				}
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("watch %d: %v", w, err)
				cancel()
			}
		})
	}
	ready.Wait()
	before := k.cpu(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := range l.events {
		<-tick.C
		name := fmt.Sprintf("%s-%d", prefix, n)
		mu.Lock()
		sent[name] = time.Now()
		mu.Unlock()
		if err := k.create(ctx, 0, name, objectSize); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatalf("%d of %d events came", arrived.Load(), l.events*watches)
	}
	cpu := k.cpu(t) - before
	cancel()
	over.Wait()
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(d.each)
	return d, cpu
}

// connections is over how many connections the clients spread.
const connections = 8

// ran is how long the threads of a process have run.
func ran(t *testing.T, pid int) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	var all time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			t.Fatal(err)
		}
		all += time.Duration(ns)
	}
	return all
}
