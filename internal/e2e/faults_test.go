//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// fault is one row of the README's table of faults.
type fault struct {
	name   string
	hurt   func(t *testing.T, victim string)
	mend   func(t *testing.T, victim string)
	moves  bool          // the victim's pods must come up elsewhere
	failed time.Duration // the most that requests may fail for, in all
}

var faults = []fault{
	{
		name: "process killed", failed: 500 * time.Millisecond,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "kill", "--process", v) },
		mend: func(t *testing.T, v string) { shoal(t, "lab", "start", v) },
	},
	{
		name: "process frozen", failed: 500 * time.Millisecond,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "freeze", v) },
		mend: func(t *testing.T, v string) { shoal(t, "lab", "thaw", v) },
	},
	{
		name: "machine killed", moves: true, failed: 2 * time.Second,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "kill", v) },
		mend: func(t *testing.T, v string) { shoal(t, "lab", "start", v) },
	},
	{
		name: "machine frozen", moves: true, failed: 3 * time.Second,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "freeze", "--machine", v) },
		mend: func(t *testing.T, v string) { shoal(t, "lab", "thaw", v) },
	},
	{
		name: "link cut", moves: true, failed: 3 * time.Second,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "cut", v) },
		mend: func(t *testing.T, _ string) { shoal(t, "lab", "heal") },
	},
	{
		name: "graceful stop", failed: 500 * time.Millisecond,
		hurt: func(t *testing.T, v string) { shoal(t, "lab", "stop", v) },
		mend: func(t *testing.T, v string) { shoal(t, "lab", "start", v) },
	},
}

// TestFaults hurts the Master's machine in every way, with a client in another machine's pod asking the VIP 50 times a
// second and a writer at another peer, and prints what each cost.
func TestFaults(t *testing.T) {
	c := startLab(t, 3)
	apply(t, web(6))
	running(t, c.api, "web", 6, 60*time.Second)
	runs := 1
	if n, err := strconv.Atoi(os.Getenv("SHOAL_FAULT_RUNS")); err == nil {
		runs = n
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			var all []cost
			for run := range runs {
				all = append(all, c.suffer(t, f, run))
			}
			report(t, f.name, all)
		})
	}
}

// cost is what one fault cost.
type cost struct {
	failed             int
	span, write, moved time.Duration
}

// report prints the median, the 99th percentile and the worst of some runs.
func report(t *testing.T, what string, all []cost) {
	t.Helper()
	t.Logf("FIGURES %-20s (median, p99, worst of %d) requests failed %s over %s; no write for %s; pods elsewhere after %s", what, len(all),
		spread(all, func(x cost) int { return x.failed }), spread(all, func(x cost) time.Duration { return x.span.Round(time.Millisecond) }),
		spread(all, func(x cost) time.Duration { return x.write.Round(time.Millisecond) }),
		spread(all, func(x cost) time.Duration { return x.moved.Round(time.Millisecond) }))
}

func spread[T int | time.Duration](all []cost, of func(cost) T) string {
	var v []T
	for _, c := range all {
		v = append(v, of(c))
	}
	slices.Sort(v)
	return fmt.Sprintf("%v, %v, %v", v[len(v)/2], v[(len(v)*99+99)/100-1], v[len(v)-1])
}

// suffer runs one fault against the Master's machine.
func (c *cluster) suffer(t *testing.T, f fault, run int) cost {
	victim := master(t)
	living := c.others(victim)
	asker := fmt.Sprintf("ask-%s-%d", strings.ReplaceAll(f.name, " ", "-"), run)
	const length = 14 * time.Second
	before := containers(t, c, victim)
	talker := strings.Replace(asker, "ask", "say", 1)
	if !f.moves {
		apply(t, pod(talker, victim, "say", "still-here"))
		shoal(t, "wait", "pod", talker, "--for", "condition=Ready")
	}
	startAsking(t, asker, living[1], length)
	w := startWriting(t, configMaps(clientFor(t, living[0])), asker)
	select {
	case <-w.wake: // without a write before the fault, no gap could be seen
	case <-time.After(10 * time.Second):
		t.Fatal("no write was acknowledged before the fault")
	}

	hurt := time.Now()
	f.hurt(t, victim)
	var x cost
	x.write = w.outage(t, time.Now(), 10*time.Second)
	elsewhere := clientFor(t, living...)
	if f.moves {
		running(t, elsewhere, "web", 6, 15*time.Second, victim)
		x.moved = time.Since(hurt)
	}
	a := answers(t, asker, length+15*time.Second)
	f.mend(t, victim)
	shoal(t, "wait", "node", victim, "--for", "condition=Ready", "--timeout", "60s")
	running(t, c.api, "web", 6, 60*time.Second)
	acked := w.stop()
	x.failed, x.span = a.failed, a.span

	// Between the first and the last that fail most are answered. That span gets a second more, for a busy machine.
	if total := time.Duration(a.failed) * time.Second / asksPerSecond; total > f.failed || a.span > f.failed+time.Second {
		t.Errorf("requests failed for %v in all, over %v; at most %v is allowed:\n%s", total, a.span, f.failed, a.log)
	}
	if a.sent < int(length.Seconds())*45 {
		t.Errorf("only %d requests were sent", a.sent)
	}
	if x.write > 3*time.Second {
		t.Errorf("no write was acknowledged for %v", x.write)
	}
	if f.moves && x.moved > 10*time.Second {
		t.Errorf("the pods took %v to run elsewhere", x.moved)
	}
	if !f.moves {
		if after := containers(t, c, victim); !slices.Equal(before, after) {
			t.Errorf("containers on %s changed:\n%v\n%v", victim, before, after)
		}
		unbroken(t, talker)
		shoal(t, "delete", "pod", talker, "--now")
	}
	noneLost(t, c, acked)
	shoal(t, "delete", "pod", asker, "--now")
	return x
}

// unbroken checks that the log of a pod that prints every 100 ms has no gap: nobody stopped draining it.
func unbroken(t *testing.T, name string) {
	t.Helper()
	var last int64
	lines := strings.Split(strings.TrimSpace(shoal(t, "logs", name)), "\n")
	for _, line := range lines {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			t.Fatalf("line %q of %s", line, name)
		}
		if last != 0 && at-last > 2000 {
			t.Errorf("%s said nothing for %d ms", name, at-last)
		}
		last = at
	}
	if now := time.Now().UnixMilli(); len(lines) < 50 || now-last > 3000 {
		t.Errorf("%s has %d lines, the last one %d ms ago", name, len(lines), now-last)
	}
}

// containers returns the ids of the web containers on a machine, as the API reports them.
func containers(t *testing.T, c *cluster, node string) []string {
	t.Helper()
	all, err := pods(t.Context(), c.api, "web")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, p := range all {
		if p.Spec.NodeName == node {
			for _, s := range p.Status.ContainerStatuses {
				ids = append(ids, p.Name+" "+s.ContainerID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// writer makes one object after the other and remembers which were acknowledged, and when.
type writer struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	acked []string
	begun []time.Time
	times []time.Time // of the acknowledgement
	wake  chan struct{}
}

// configMaps writes through the API.
func configMaps(at client.Interface) func(ctx context.Context, name string) error {
	return func(ctx context.Context, name string) error {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		_, err := at.Create(ctx, api.ConfigMaps, cm, client.CreateOptions{})
		return err
	}
}

func startWriting(t *testing.T, write func(ctx context.Context, name string) error, prefix string) *writer {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{cancel: cancel, wake: make(chan struct{}, 1)}
	t.Cleanup(cancel)
	w.done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("%s-%d", prefix, i)
			started := time.Now()
			one, stop := context.WithTimeout(ctx, 5*time.Second)
			err := write(one, name)
			stop()
			if err == nil {
				w.mu.Lock()
				w.acked = append(w.acked, name)
				w.begun = append(w.begun, started)
				w.times = append(w.times, time.Now())
				w.mu.Unlock()
				select {
				case w.wake <- struct{}{}:
				default:
				}
			}
			select {
			case <-time.After(10 * time.Millisecond): // a steady trickle, not a load
			case <-ctx.Done():
			}
		}
	})
	return w
}

// outage returns how long no write was acknowledged around a fault, which must be over within limit.
func (w *writer) outage(t *testing.T, at time.Time, limit time.Duration) time.Duration {
	t.Helper()
	d, over := w.silence(t, at, limit)
	if !over {
		t.Errorf("no write was acknowledged within %v", limit)
	}
	return d
}

// silence returns how long no write was acknowledged around a moment: limit, and false, when it is not over within that.
func (w *writer) silence(t *testing.T, at time.Time, limit time.Duration) (d time.Duration, over bool) {
	t.Helper()
	deadline := time.After(limit)
	for {
		w.mu.Lock()
		last := len(w.times) - 1
		if last >= 0 && w.begun[last].After(at) {
			if last == 0 {
				t.Error("no write was acknowledged before the fault: its cost is not known")
			}
			for i := 1; i <= last; i++ {
				d = max(d, w.times[i].Sub(w.times[i-1]))
			}
			w.mu.Unlock()
			return d, true
		}
		w.mu.Unlock()
		select {
		case <-w.wake:
		case <-deadline:
			return limit, false
		}
	}
}

func (w *writer) stop() []string {
	w.cancel()
	w.done.Wait()
	return w.acked
}

// noneLost checks that every acknowledged write is there, at every peer; at one that lags, and answers with what it has, as soon as it does not.
func noneLost(t *testing.T, c *cluster, acked []string) {
	t.Helper()
	for _, name := range c.names {
		at := clientFor(t, name)
		within(t, 60*time.Second, name+" has every acknowledged write", func(ctx context.Context) error {
			list, err := at.List(ctx, api.ConfigMaps, client.ListOptions{Namespace: "default"})
			if err != nil {
				return err
			}
			there := map[string]bool{}
			for _, o := range list.Items {
				there[o.GetName()] = true
			}
			for _, a := range acked {
				if !there[a] {
					return fmt.Errorf("%s was acknowledged and is not there", a)
				}
			}
			return nil
		})
	}
}
