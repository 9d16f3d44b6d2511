package testcluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// ledger is what was acknowledged.
type ledger struct {
	mu   sync.Mutex
	acks map[string]ack
	top  uint64 // the newest acknowledged revision
	n    int
}

// ack is the last acknowledged write of an object that only one writer writes.
type ack struct {
	value   int
	deleted bool
	unsure  bool // a later deletion may have happened
}

func (l *ledger) note(name string, a ack, o metav1.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks[name] = a
	l.n++
	if rev, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64); err == nil {
		l.top = max(l.top, rev)
	}
}

func (l *ledger) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top
}

// writer writes at one peer: ConfigMaps that count up, and Services and Nodes, which get addresses.
type writer struct {
	c    *cluster
	name string
	cl   *client.HTTP
	rng  *rand.Rand
	l    *ledger
	live []string
	next int
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 8*time.Second)
		var err error
		switch n := w.rng.Intn(20); {
		case n < 9 || len(w.live) == 0:
			err = w.create(one)
		case n < 15:
			err = w.update(one)
		case n < 17:
			err = w.remove(one)
		default:
			err = w.address(one, n%2 == 0)
		}
		ended := one.Err() != nil
		cancel()
		if code := status(err); err != nil && !ended && code != http.StatusServiceUnavailable && code != http.StatusGatewayTimeout {
			w.c.Errorf("write at %s: %v", w.name, err)
			return
		}
		testcluster.Pass(ctx, time.Duration(5+w.rng.Intn(30))*time.Millisecond)
	}
}

func (w *writer) create(ctx context.Context) error {
	w.next++
	name := fmt.Sprintf("%s-%d", w.name, w.next)
	o, err := w.cl.Create(ctx, api.ConfigMaps, newConfigMap(name, "0"), client.CreateOptions{})
	if err != nil {
		return err
	}
	w.live = append(w.live, name)
	w.l.note(name, ack{}, o.(metav1.Object))
	return nil
}

// update sets the next number, whatever happened to the ones before.
func (w *writer) update(ctx context.Context) error {
	name := w.live[w.rng.Intn(len(w.live))]
	w.next++
	o, err := w.cl.Update(ctx, api.ConfigMaps, newConfigMap(name, strconv.Itoa(w.next)), client.UpdateOptions{})
	if err == nil {
		w.l.note(name, ack{value: w.next}, o.(metav1.Object))
	}
	return err
}

func (w *writer) remove(ctx context.Context) error {
	i := w.rng.Intn(len(w.live))
	name := w.live[i]
	w.live = append(w.live[:i], w.live[i+1:]...)
	o, err := w.cl.Delete(ctx, api.ConfigMaps, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{})
	switch {
	case err == nil:
		w.l.note(name, ack{deleted: true}, o)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("delete what was acknowledged: %w", err)
	default:
		w.l.mu.Lock()
		a := w.l.acks[name]
		a.unsure = true
		w.l.acks[name] = a
		w.l.mu.Unlock()
	}
	return err
}

func (w *writer) address(ctx context.Context, service bool) error {
	w.next++
	name := fmt.Sprintf("%s-%d", w.name, w.next)
	if service {
		if _, err := w.cl.Create(ctx, api.Services, newService(name), client.CreateOptions{}); err != nil {
			return err
		}
		if w.rng.Intn(2) == 0 {
			_, err := w.cl.Delete(ctx, api.Services, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{})
			return ignoreNotFound(err)
		}
		return nil
	}
	if _, err := w.cl.Create(ctx, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "spare-" + name}}, client.CreateOptions{}); err != nil {
		return err
	}
	_, err := w.cl.Delete(ctx, api.Nodes, client.Key{Name: "spare-" + name}, client.DeleteOptions{})
	return ignoreNotFound(err)
}

// ignoreNotFound is for deletions that the client may have sent twice.
func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// readAlways checks that a peer's most recent reads are never older than what had been acknowledged anywhere, or warn.
func (c *cluster) readAlways(ctx context.Context, name string, l *ledger, fresh *int) {
	cl := c.Client(name)
	for ctx.Err() == nil {
		least := l.newest()
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		rev, warned, err := readRev(one, cl)
		cancel()
		if err == nil && !warned {
			*fresh++
			if rev < least {
				c.Errorf("%s answers a most recent read at revision %d after %d was acknowledged", name, rev, least)
				return
			}
		}
		testcluster.Pass(ctx, 20*time.Millisecond)
	}
}

func readRev(ctx context.Context, cl *client.HTTP) (rev uint64, warned bool, err error) {
	resp, err := cl.Do(ctx, http.MethodGet, configMaps, url.Values{"limit": {"1"}}, http.Header{"Accept": {"application/json"}}, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	var l metav1.PartialObjectMetadataList
	if err := json.NewDecoder(resp.Body).Decode(&l); err != nil {
		return 0, false, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, false, fmt.Errorf("%s", resp.Status)
	}
	rev, err = strconv.ParseUint(l.ResourceVersion, 10, 64)
	return rev, resp.Header.Get("Warning") != "", err
}

// faults does something to the cluster, again and again.
func (c *cluster) faults(ctx context.Context, rng *rand.Rand, rounds int) {
	names := c.Names()
	for range rounds {
		switch n := rng.Intn(10); {
		case n < 4:
			in := names[rng.Intn(len(names))]
			if rng.Intn(2) == 0 {
				in = c.Master()
			}
			old := c.Master()
			c.Isolate(in)
			if in == old && len(names) > 2 {
				c.Until("the lonely Master's work has ended", func() bool { return c.Peer(old).Leading() == 0 })
			}
			testcluster.Pass(ctx, time.Duration(rng.Intn(6000))*time.Millisecond)
			c.Heal()
		case n < 7:
			c.MoveMaster()
		case n < 9:
			victim := names[rng.Intn(len(names))]
			if n == 7 {
				c.Kill(victim)
			} else {
				c.Stop(victim)
			}
			testcluster.Pass(ctx, time.Duration(rng.Intn(6000))*time.Millisecond)
			c.Restart(victim)
		default:
			c.Partition(names...) // everybody alone
			testcluster.Pass(ctx, time.Duration(rng.Intn(3000))*time.Millisecond)
			c.Heal()
		}
		testcluster.Pass(ctx, time.Duration(rng.Intn(1500))*time.Millisecond)
	}
}

// TestNothingIsLostOrInvented lets writers, readers and watchers work at every peer while the cluster is hurt.
func TestNothingIsLostOrInvented(t *testing.T) {
	first, n := seeds(t)
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			peers, rounds := 3, 8
			if seed%4 == 3 {
				peers, rounds = 5, 3
			}
			inCluster(t, peers, testcluster.Options{Seed: seed}, func(c *cluster) { c.history(rand.New(rand.NewSource(seed)), rounds) })
		})
	}
}

// seeds returns the first seed and how many to try. SHOAL_SEEDS=FIRST+N asks for others than the usual ones.
func seeds(t *testing.T) (first, n int64) {
	t.Helper()
	s := os.Getenv("SHOAL_SEEDS")
	if s == "" {
		return 2, 2
	}
	if _, err := fmt.Sscanf(s, "%d+%d", &first, &n); err != nil {
		t.Fatalf("SHOAL_SEEDS=%q is not FIRST+N: %v", s, err)
	}
	return first, n
}

func (c *cluster) history(rng *rand.Rand, rounds int) {
	const replicas = 6
	names := c.Names()
	c.nodes()
	from := c.Registry(names[0]).Revision()
	ctx, cancel := context.WithCancel(c.Context())
	var watching, working sync.WaitGroup
	observers := map[*api.Kind][]*observer{}
	for _, k := range []*api.Kind{api.ConfigMaps, api.Pods, api.Services, api.Nodes} {
		for i := range names {
			observers[k] = append(observers[k], c.observe(ctx, &watching, k, i, from, rng.Int63()))
		}
	}
	c.create(names[0], api.Services, newService("web"))
	c.create(names[0], api.ReplicationControllers, newController("web", replicas))
	c.run(names[0], "web", replicas)
	settled := c.Registry(names[0]).Revision()

	l := &ledger{acks: map[string]ack{}}
	work, stop := context.WithCancel(ctx)
	fresh := make([]int, len(names))
	for i, n := range names {
		w := &writer{c: c, name: n, cl: c.Client(n), rng: rand.New(rand.NewSource(rng.Int63())), l: l}
		working.Go(func() { w.run(work) })
		working.Go(func() { c.readAlways(work, n, l, &fresh[i]) })
	}
	c.faults(ctx, rng, rounds)
	stop()
	working.Wait()
	c.Heal()
	c.nodes()
	for _, n := range names {
		c.run(n, "web", replicas)
	}
	c.Same()
	testcluster.Pass(ctx, 10*time.Second) // the slowest observer finds a peer again within this
	cancel()
	watching.Wait()
	c.Same()
	c.acknowledged(l)
	for k, all := range observers {
		want := c.truth(names[0], k, from)
		for _, o := range all {
			o.agree(want)
		}
	}
	vips := observers[api.Services][0].holders(func(o api.Object) string { return o.(*corev1.Service).Spec.ClusterIP })
	ranges := observers[api.Nodes][0].holders(func(o api.Object) string { return o.(*corev1.Node).Spec.PodCIDR })
	least, most := enough(c, observers[api.Pods][0].seen, settled, replicas)
	c.Logf("%d writes acknowledged, %v fresh reads, %d addresses and %d ranges handed out, %d to %d pods, %d revisions",
		l.n, fresh, vips, ranges, least, most, c.Registry(names[0]).Revision())
	if l.n < 100 {
		c.Errorf("only %d writes were acknowledged", l.n)
	}
}

// acknowledged fails unless every peer has what was acknowledged, or something newer of the same writer.
func (c *cluster) acknowledged(l *ledger) {
	c.Helper()
	for _, at := range c.Names() {
		have := map[string]int{}
		for _, cm := range list[*corev1.ConfigMap](c, at, api.ConfigMaps, "default") {
			n, err := strconv.Atoi(cm.Data["v"])
			if err != nil {
				c.Errorf("%s: %v", cm.Name, err)
			}
			have[cm.Name] = n
		}
		for name, a := range l.acks {
			n, ok := have[name]
			switch {
			case a.deleted && ok:
				c.Errorf("%s has %s, whose deletion was acknowledged", at, name)
			case !a.deleted && !a.unsure && !ok:
				c.Errorf("%s has no %s, which was acknowledged", at, name)
			case ok && n < a.value:
				c.Errorf("%s has %s at %d after %d was acknowledged", at, name, n, a.value)
			}
		}
	}
}

// enough replays the pods' history and fails if ever fewer lived than wanted.
func enough(c *cluster, events []seen, settled uint64, want int) (least, most int) {
	c.Helper()
	living := map[client.Key]bool{}
	least, most = want, want
	for _, s := range events {
		p := s.object.(*corev1.Pod)
		if s.deleted || len(alive([]*corev1.Pod{p})) == 0 {
			delete(living, s.key)
		} else {
			living[s.key] = true
		}
		if s.rev < settled {
			continue
		}
		most = max(most, len(living))
		if len(living) < least {
			least = len(living)
			c.Errorf("%d pods live at revision %d, want %d", least, s.rev, want)
		}
	}
	return least, most
}
