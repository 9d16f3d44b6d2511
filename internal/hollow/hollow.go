// Package hollow is one peer with as many machines as wanted that only pretend, to see what the Master's work costs at
// sizes nobody has at hand: consensus with its log on a disk, registry, admission and Master are the real ones; liveness and
// the running of pods are made up. Used by tests and benchmarks only.
package hollow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/client/clienttest"
	"shoal/master"
	"shoal/master/admission"
	"shoal/master/registry"
)

// Options of a Cluster.
type Options struct {
	Nodes, Zones int
	// Still leaves pods as they are: nobody starts them or confirms their ends.
	Still bool
	// Waiting has the Master begin when Lead is called, and not at once.
	Waiting bool
}

// Cluster is the peer and its hollow Nodes.
type Cluster struct {
	*registry.Registry
	tb      testing.TB
	begin   chan struct{}
	once    sync.Once
	view    *view
	runtime *runtime
}

var (
	serviceCIDR = netip.MustParsePrefix("10.32.0.0/16")
	podCIDR     = netip.MustParsePrefix("10.64.0.0/10") // room for 16,384 Nodes
)

// writers is how many hollow machines write at once.
const writers = 32

// Start returns a cluster whose Nodes are all ready. It ends with the test.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, begin: make(chan struct{}), view: newView()}
	log := clienttest.Logger(tb, slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var lead *master.Master
	raft := consensus.New(consensus.Config{
		ID: "hollow", Dir: tb.TempDir(), Bootstrap: true, Stream: alone{listener}, Peers: alone{}, Log: log,
		Lead: func(ctx context.Context, term uint64) error {
			select {
			case <-c.begin:
				return lead.Lead(ctx, term)
			case <-ctx.Done():
				return nil
			}
		},
	})
	var chain admission.Chain
	c.Registry = registry.New(registry.Config{
		Log: raft, ServiceCIDR: serviceCIDR, PodCIDR: podCIDR, Logger: log,
		Admit: func(ctx context.Context, a *registry.Admission) error {
			return chain.Admit(ctx, &admission.Request{
				Operation: admission.Operation(a.Operation), Kind: a.Kind, Subresource: a.Subresource, Key: a.Key, Object: a.Object, OldObject: a.Old, DryRun: a.DryRun,
			})
		},
	})
	chain = admission.New(admission.Config{Reader: c.Registry, EvictionGrace: time.Second})
	lead = master.New(master.Config{
		Client: c.Registry, Liveness: c.view, PodCIDR: podCIDR, ServiceCIDR: serviceCIDR, Domain: "cluster.local", EvictionGrace: time.Second, Log: log,
	})
	c.runtime = newRuntime(c.Registry, c.view, log)
	runs := []func(context.Context) error{raft.Run, c.Registry.Run}
	if !o.Still {
		runs = append(runs, c.runtime.run)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var g errgroup.Group
	for _, run := range runs {
		g.Go(func() error { return run(ctx) })
	}
	tb.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	})
	c.untilMaster(raft)
	c.addNamespace()
	c.addNodes(o)
	if !o.Waiting {
		c.Lead()
	}
	return c
}

func (c *Cluster) untilMaster(raft *consensus.Peer) {
	c.tb.Helper()
	late := time.After(time.Minute)
	for {
		changed := raft.Changed()
		if _, ok := raft.Leader(); ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			c.tb.Fatal("the peer does not lead after a minute")
		}
	}
}

// Lead has the Master begin.
func (c *Cluster) Lead() { c.once.Do(func() { close(c.begin) }) }

// NodeName is what the i-th Node is called; its zone is i modulo the number of zones.
func NodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

// addNamespace makes what pods need that the Master may not have made yet.
func (c *Cluster) addNamespace() {
	c.tb.Helper()
	c.Each(1, func(ctx context.Context, _ int) error {
		if _, err := c.Create(ctx, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, client.CreateOptions{}); err != nil {
			return err
		}
		_, err := c.Create(ctx, api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}, client.CreateOptions{})
		return err
	})
}

func (c *Cluster) addNodes(o Options) {
	c.tb.Helper()
	c.Each(o.Nodes, func(ctx context.Context, i int) error {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: NodeName(i), Labels: map[string]string{
			corev1.LabelHostname: NodeName(i), corev1.LabelTopologyZone: fmt.Sprint("zone-", i%max(o.Zones, 1)),
		}}}
		out, err := c.Create(ctx, api.Nodes, n, client.CreateOptions{})
		if err != nil {
			return err
		}
		n = out.(*corev1.Node).DeepCopy()
		n.Status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
		}
		n.Status.Allocatable = n.Status.Capacity
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastTransitionTime: metav1.Now()}}
		ready, err := c.Update(ctx, api.Nodes, n, client.UpdateOptions{Subresource: "status"})
		if err != nil || !o.Waiting {
			return err
		}
		// Before there is a Master nobody sees that the Node is ready.
		n = ready.(*corev1.Node).DeepCopy()
		n.Spec.Taints = nil
		_, err = c.Update(ctx, api.Nodes, n, client.UpdateOptions{})
		return err
	})
}

// Each calls f for 0 to n-1, many at a time.
func (c *Cluster) Each(n int, f func(ctx context.Context, i int) error) {
	c.tb.Helper()
	g, ctx := errgroup.WithContext(c.tb.Context())
	g.SetLimit(4 * writers)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		c.tb.Fatal(err)
	}
}

// Kill takes the power of machines away, and lets gossip know.
func (c *Cluster) Kill(nodes ...string) { c.view.kill(nodes) }

// Until waits until done holds for the objects of a kind, looked at after every change.
func Until[T api.Object](c *Cluster, k *api.Kind, what string, done func([]T) bool) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), 10*time.Minute)
	defer cancel()
	cache := client.NewCache[T](client.CacheConfig{Client: c.Registry, Kind: k, ListOptions: client.ListOptions{ResourceVersion: "0"}})
	changed := make(chan struct{}, 1)
	cache.OnChange(func(T, T) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	go func() { _ = cache.Run(ctx) }()
	if err := client.WaitSynced(ctx, cache); err != nil {
		c.tb.Fatal(err)
	}
	for !done(cache.List("", nil)) {
		select {
		case <-changed:
		case <-ctx.Done():
			c.tb.Fatalf("%s: not after ten minutes", what)
		}
	}
}

// alone is the way to other peers of one that has none.
type alone struct{ net.Listener }

var errAlone = errors.New("there is no other peer")

func (alone) Dial(consensus.PeerID, time.Duration) (net.Conn, error) { return nil, errAlone }

func (alone) Call(context.Context, consensus.PeerID, string, []byte) ([]byte, error) {
	return nil, errAlone
}

// view is what gossip says of the hollow machines: they answer until they are killed.
type view struct {
	mu      sync.Mutex
	dead    map[string]time.Time
	changed chan struct{}
}

func newView() *view { return &view{dead: map[string]time.Time{}, changed: make(chan struct{})} }

func (v *view) kill(nodes []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range nodes {
		v.dead[n] = time.Now()
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// Liveness implements the Master's interface of that name.
func (v *view) Liveness(node string) api.Liveness {
	if !v.Since(node).IsZero() {
		return api.Gone
	}
	return api.Alive
}

// Since tells when a machine was killed; zero for one that was not.
func (v *view) Since(node string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.dead[node]
}

// Changed returns a channel that the next kill closes.
func (v *view) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// runtime makes pods on living machines Running and Ready, and confirms their ends.
type runtime struct {
	client client.Interface
	view   *view
	log    *slog.Logger
	pods   *client.Cache[*corev1.Pod]
	queue  client.Queue
}

func newRuntime(c client.Interface, v *view, log *slog.Logger) *runtime {
	r := &runtime{client: c, view: v, log: log, queue: client.NewQueue()}
	r.pods = client.NewCache[*corev1.Pod](client.CacheConfig{Client: c, Kind: api.Pods, ListOptions: client.ListOptions{ResourceVersion: "0"}})
	r.pods.OnChange(func(_, p *corev1.Pod) {
		if p != nil && p.Spec.NodeName != "" && (p.DeletionTimestamp != nil || !api.IsPodReady(p)) {
			r.queue.Add(client.KeyOf(p))
		}
	})
	return r
}

func (r *runtime) run(ctx context.Context) error {
	defer r.queue.ShutDown()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.pods.Run(ctx) })
	for range writers {
		g.Go(func() error {
			return client.RunLoop(ctx, client.LoopConfig[client.Key]{Name: "hollow", Queue: r.queue, Log: r.log, Reconcile: r.reconcile})
		})
	}
	return g.Wait()
}

func (r *runtime) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	p, ok := r.pods.Get(key)
	if !ok || r.view.Liveness(p.Spec.NodeName) != api.Alive {
		return 0, nil
	}
	if p.DeletionTimestamp != nil {
		_, err := r.client.Delete(ctx, api.Pods, key, client.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID}})
		return 0, ignoreNotFound(err)
	}
	if api.IsPodReady(p) {
		return 0, nil
	}
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIP = "10.0.0.1"
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	started := metav1.Now()
	p.Status.StartTime = &started
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		api.SetPodCondition(p, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue}, started.Time)
	}
	_, err := r.client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	return 0, ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
