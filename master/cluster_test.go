package master_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/client/clienttest"
	"shoal/master"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// cluster is a registry with Masters that come and go, and Nodes whose peers do what peers do. It lives in a synctest
// bubble: settle returns when everybody has nothing left to do, and time moves only then and when a test waits.
type cluster struct {
	ca ca
	*testing.T
	*registry.Registry
	log      *registrytest.Log
	live     *liveness
	detector client.MutationDetector
	load     loads
	balanced bool                          // the Masters to come rebalance
	master   atomic.Pointer[master.Master] // the newest
	stop     func()
}

const (
	evictionGrace = 5 * time.Second
	agentGrace    = 5 * time.Minute
)

// inCluster runs f in a bubble with a cluster of n Nodes and a Master.
func inCluster(t *testing.T, n int, f func(c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, live: newLiveness()}
		c.log = registrytest.NewLog()
		config := registrytest.Config(c.log)
		config.Charge = func(ctx context.Context, ch *client.Charge) (func(uint64), error) {
			return c.master.Load().Charge(ctx, ch)
		}
		c.Registry = registrytest.Start(t, config)
		for i := range n {
			c.addNode(fmt.Sprint("node-", i), "4")
		}
		c.runPeers()
		c.lead(1)
		c.settle()
		f(c)
		c.stop()
		if err := c.detector.Check(); err != nil {
			t.Error(err)
		}
	})
}

// ca is what the API's certificates are signed by; it changes when a test says so.
type ca struct {
	mu      sync.Mutex
	now     string
	changed chan struct{}
}

func (a *ca) pem() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []byte(cmp.Or(a.now, testCA))
}

func (a *ca) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

func (a *ca) set(now string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = now
	close(a.changed)
	a.changed = nil
}

// rev is the store's revision.
func (c *cluster) rev() uint64 { return uint64(c.log.Store().Rev()) }

// lead makes a Master for a term, which c.stop ends.
func (c *cluster) lead(term uint64) {
	c.Helper()
	c.leadAs(term, c.Registry)
}

// leadAs makes one that reads and writes through by, without some controllers.
func (c *cluster) leadAs(term uint64, by client.Interface, without ...string) {
	c.Helper()
	m := master.New(master.Config{
		Client: by, Liveness: c.live, PodCIDR: registrytest.PodCIDR, ServiceCIDR: registrytest.ServiceCIDR,
		CA: c.ca.pem, CAChanged: c.ca.next, EvictionGrace: evictionGrace, AgentGrace: agentGrace, Detector: &c.detector, Usage: c.usage, Without: without, Rebalance: c.balanced,
		Log: clienttest.Logger(c, slog.DiscardHandler),
	})
	c.master.Store(m)
	c.leadAgain(term)
}

// leadAgain has the newest Master lead another term.
func (c *cluster) leadAgain(term uint64) {
	m := c.master.Load()
	c.stop = c.background("lead", func(ctx context.Context) error { return m.Lead(ctx, term) })
}

// background runs f until the returned function, or the end of the test, stops it and waits for it.
func (c *cluster) background(what string, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			c.Errorf("%s: %v", what, err)
		}
	})
	c.Cleanup(stop)
	return stop
}

// settle lets what can be done be done. Two writers of one object may conflict; then the loser tries again after a few milliseconds.
func (c *cluster) settle() {
	synctest.Wait()
	c.pass(50 * time.Millisecond)
}

// pass lets d go by.
func (c *cluster) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (c *cluster) addNode(name, cpu string) {
	c.Helper()
	c.live.set(name, api.Alive)
	c.create(api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}})
	n := get[*corev1.Node](c, api.Nodes, "", name)
	n.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Allocatable = n.Status.Capacity
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.7." + name[len(name)-1:]}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	n.ResourceVersion = "" // a Master may have tainted it by now
	if _, err := c.Update(c.Context(), api.Nodes, n, client.UpdateOptions{Subresource: "status"}); err != nil {
		c.Fatal(err)
	}
}

// runPeers makes every living Node's peer run its pods and confirm their ends.
func (c *cluster) runPeers() {
	pods := client.NewCache[*corev1.Pod](client.CacheConfig{Client: c.Registry, Kind: api.Pods})
	nodes := client.NewCache[*corev1.Node](client.CacheConfig{Client: c.Registry, Kind: api.Nodes})
	queue := client.NewQueue()
	pods.OnChange(func(old, p *corev1.Pod) { queue.Add(client.KeyOf(cmp.Or(p, old))) })
	nodes.OnChange(func(old, n *corev1.Node) { queue.Add(client.KeyOf(cmp.Or(n, old))) })
	c.background("pods", pods.Run)
	c.background("nodes", nodes.Run)
	c.background("peers", func(ctx context.Context) error {
		return client.RunLoop(ctx, client.LoopConfig[client.Key]{Queue: queue, Workers: 4, Reconcile: func(ctx context.Context, key client.Key) (time.Duration, error) {
			if key.Namespace == "" {
				return 0, c.beNode(ctx, nodes, key)
			}
			return 0, c.bePod(ctx, pods, key)
		}})
	})
	c.background("returns", func(ctx context.Context) error {
		for {
			changed := c.live.Changed()
			for _, p := range pods.List("", nil) {
				queue.Add(client.KeyOf(p))
			}
			for _, n := range nodes.List("", nil) {
				queue.Add(client.KeyOf(n))
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

func (c *cluster) beNode(ctx context.Context, nodes *client.Cache[*corev1.Node], key client.Key) error {
	n, ok := nodes.Get(key)
	if !ok || c.live.Liveness(n.Name) != api.Alive || len(n.Status.Conditions) == 0 || n.Status.Conditions[0].Status == corev1.ConditionTrue {
		return nil
	}
	n = n.DeepCopy()
	n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}
	_, err := c.Update(ctx, api.Nodes, n, client.UpdateOptions{Subresource: "status"})
	return err
}

func (c *cluster) bePod(ctx context.Context, pods *client.Cache[*corev1.Pod], key client.Key) error {
	p, ok := pods.Get(key)
	if !ok || p.Spec.NodeName == "" || c.live.Liveness(p.Spec.NodeName) != api.Alive {
		return nil
	}
	if p.DeletionTimestamp != nil {
		_, err := c.Delete(ctx, api.Pods, key, client.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	ends := corev1.PodPhase(p.Annotations["test/ends"])
	if ended || api.IsPodReady(p) && ends == "" || p.Annotations["test/broken"] != "" {
		return nil
	}
	p = p.DeepCopy()
	if api.IsPodReady(p) && ends != "" {
		end(p, ends, 1)
		_, err := c.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
		return err
	}
	p.Status.Phase = corev1.PodRunning
	if p.Status.StartTime == nil {
		p.Status.StartTime = new(metav1.Now())
	}
	if p.Status.PodIP == "" {
		p.Status.PodIP = c.live.address()
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	if old := api.PodCondition(p, corev1.PodReady); old != nil {
		*old = ready
	} else {
		p.Status.Conditions = append(p.Status.Conditions, ready)
	}
	_, err := c.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	return err
}

// end makes a copy of a pod one whose container has exited.
func end(p *corev1.Pod, phase corev1.PodPhase, code int32) {
	if phase == corev1.PodSucceeded {
		code = 0
	}
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, FinishedAt: metav1.Now(),
	}}}}
	if ready := api.PodCondition(p, corev1.PodReady); ready != nil {
		ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
	}
}

func (c *cluster) create(k *api.Kind, o api.Object) api.Object {
	c.Helper()
	out, err := c.Create(c.Context(), k, o, client.CreateOptions{})
	if err != nil {
		c.Fatalf("create %s: %v", o.GetName(), err)
	}
	return out.DeepCopyObject().(api.Object)
}

func get[T api.Object](c *cluster, k *api.Kind, namespace, name string) T {
	c.Helper()
	o, err := c.Get(c.Context(), k, client.Key{Namespace: namespace, Name: name}, client.GetOptions{})
	if err != nil {
		c.Fatalf("get %s %s: %v", k.Singular, name, err)
	}
	return o.DeepCopyObject().(T)
}

// modify changes an object of the default namespace, and waits until nobody has anything left to do.
func modify[T api.Object](c *cluster, k *api.Kind, name string, change ...func(T)) {
	c.Helper()
	o := get[T](c, k, metav1.NamespaceDefault, name)
	for _, f := range change {
		f(o)
	}
	o.SetResourceVersion("")
	if _, err := c.Update(c.Context(), k, o, client.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// pods returns the pods of the default namespace, in order of their names.
func (c *cluster) pods() []*corev1.Pod {
	c.Helper()
	l, err := c.List(c.Context(), api.Pods, client.ListOptions{Namespace: metav1.NamespaceDefault})
	if err != nil {
		c.Fatal(err)
	}
	var out []*corev1.Pod
	for _, o := range l.Items {
		out = append(out, o.(*corev1.Pod))
	}
	return out
}

// on returns the pods of a Node.
func on(node string, pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.Spec.NodeName != node })
}

func newController(name string, replicas int32) *corev1.ReplicationController {
	l := map[string]string{"app": name}
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &replicas, Selector: l,
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: podSpec()},
		},
	}
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{
		Name: "main", Image: "example.org/main:1",
		Ports:     []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
	}}}
}

// scale sets what an RC wants.
func (c *cluster) scale(name string, replicas int32) {
	c.Helper()
	rc := get[*corev1.ReplicationController](c, api.ReplicationControllers, metav1.NamespaceDefault, name)
	rc.Spec.Replicas, rc.ResourceVersion = &replicas, ""
	if _, err := c.Update(c.Context(), api.ReplicationControllers, rc, client.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// liveness is gossip's opinion, as a test sets it.
type liveness struct {
	mu       sync.Mutex
	state    map[string]api.Liveness
	since    map[string]time.Time
	unsteady map[string]bool
	changed  chan struct{}
	next     int
}

func newLiveness() *liveness {
	return &liveness{state: map[string]api.Liveness{}, since: map[string]time.Time{}, unsteady: map[string]bool{}, changed: make(chan struct{})}
}

func (l *liveness) set(node string, s api.Liveness) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state[node], l.since[node] = s, time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *liveness) Liveness(node string) api.Liveness {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.state[node]; ok {
		return s
	}
	return api.Unknown
}

func (l *liveness) Since(node string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since[node]
}

func (l *liveness) setUnsteady(node string, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsteady[node] = is
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *liveness) Unsteady(node string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsteady[node]
}

func (l *liveness) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// address returns an address for a pod.
func (l *liveness) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return fmt.Sprintf("10.244.%d.%d", l.next/250, l.next%250+2)
}
