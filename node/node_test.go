package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
	"shoal/node/runtime"
	"shoal/node/runtime/fake"
)

// links hands out addresses and remembers who has one.
type links struct {
	mu    sync.Mutex
	addrs map[types.UID]netip.Addr
	next  netip.Addr
	fail  error // of the next Attach
}

func newLinks() *links {
	return &links{addrs: map[types.UID]netip.Addr{}, next: netip.MustParseAddr("10.244.0.2")}
}

func (n *links) Ready(context.Context) error { return nil }

func (n *links) Attach(_ context.Context, uid types.UID, _ string, recorded netip.Addr) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fail; err != nil {
		n.fail = nil
		return netip.Addr{}, err
	}
	if a, ok := n.addrs[uid]; ok {
		return a, nil
	}
	a := recorded
	if !a.IsValid() {
		a = n.next
		n.next = n.next.Next()
	}
	n.addrs[uid] = a
	return a, nil
}

func (n *links) Detach(_ context.Context, uid types.UID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.addrs, uid)
	return nil
}

func (n *links) Keep(_ context.Context, pods map[types.UID]netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = map[types.UID]netip.Addr{}
	for uid, a := range pods {
		n.addrs[uid] = a
	}
	return nil
}

func (n *links) attached() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.addrs)
}

// world is a node with everything around it, inside a bubble of virtual time.
type world struct {
	t       *testing.T
	api     *registry.Registry
	log     *registrytest.Log
	runtime *fake.Runtime
	network *links
	dir     string
	client  client.Interface // the node's; the registry unless set
	seen    client.MutationDetector
	stop    func()
	node    *Node
	config  func(*Config) // changes the node's, when it is started
	// serves says whether Services send anybody to pods; nil for no.
	serves func(ctx context.Context, ip netip.Addr) (bool, error)
}

func (w *world) withdrawn(ctx context.Context, ip netip.Addr) (bool, error) {
	if w.serves == nil {
		return false, nil
	}
	return w.serves(ctx, ip)
}

const me = "peer-1"

func newWorld(t *testing.T, dir string) *world {
	w := &world{t: t, runtime: fake.New(nil), network: newLinks(), dir: dir}
	w.api, w.log = registrytest.New(t)
	return w
}

// rev is the store's revision.
func (w *world) rev() store.Rev { return w.log.Store().Rev() }

// inWorld runs f in a world whose node runs.
func inWorld(t *testing.T, f func(w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.runtime.AddImage(runtime.Image{Name: "app"})
		for _, ns := range []string{"default"} {
			w.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		}
		t.Cleanup(w.halt)
		w.start()
		f(w)
		if err := w.seen.Check(); err != nil {
			t.Error(err)
		}
	})
}

// start runs a node over the world's runtime, as after a restart of the peer.
func (w *world) start() {
	c := w.client
	if c == nil {
		c = w.api
	}
	cfg := Config{
		Machine: Machine{Name: me, Addresses: []string{"192.0.2.1"}, Version: "v0"},
		Client:  c, Runtime: w.runtime, Network: w.network, Dir: w.dir,
		DNS: DNS{Servers: []string{"10.43.0.10"}}, Detector: &w.seen, Withdrawn: w.withdrawn,
	}
	if w.config != nil {
		w.config(&cfg)
	}
	w.node = New(cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.node.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("node ended: %v", err)
		}
	}
	w.settle()
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// settle lets everything happen that needs no more than a second.
func (w *world) settle() { w.pass(time.Second) }

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
	synctest.Wait()
}

func (w *world) create(k *api.Kind, o api.Object) api.Object {
	w.t.Helper()
	out, err := w.api.Create(w.t.Context(), k, o, client.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.(api.Object)
}

// pod creates a pod bound to the node.
func (w *world) pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	w.t.Helper()
	p := newPod(name)
	if change != nil {
		change(p)
	}
	return w.create(api.Pods, p).(*corev1.Pod)
}

func newPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.PodSpec{NodeName: me, Containers: []corev1.Container{{Name: "c", Image: "app", ImagePullPolicy: corev1.PullIfNotPresent}}},
	}
}

// get returns the stored pod, nil when it is gone.
func (w *world) get(name string) *corev1.Pod {
	w.t.Helper()
	o, err := w.api.Get(w.t.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o.(*corev1.Pod)
}

func (w *world) delete(name string, grace int64) {
	w.t.Helper()
	_, err := w.api.Delete(w.t.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil {
		w.t.Fatal(err)
	}
}

// held returns how many pods the runtime holds.
func (w *world) held() []runtime.Pod {
	w.t.Helper()
	pods, err := w.runtime.Pods(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return pods
}

func (w *world) wantRunning(name string) *corev1.Pod {
	w.t.Helper()
	p := w.get(name)
	if p == nil {
		w.t.Fatalf("pod %s is gone", name)
	}
	if p.Status.Phase != corev1.PodRunning || !api.IsPodReady(p) || p.Status.PodIP == "" {
		w.t.Fatalf("pod %s: phase %s, ip %q, %s", name, p.Status.Phase, p.Status.PodIP, brief(p))
	}
	return p
}

func (w *world) wantNothing() {
	w.t.Helper()
	if held := w.held(); len(held) > 0 || w.network.attached() > 0 {
		w.t.Fatalf("left over: %v, %d links", held, w.network.attached())
	}
}

func brief(p *corev1.Pod) string {
	s := fmt.Sprint(p.Status.Reason, " ")
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		s += fmt.Sprintf("[%s ready=%v restarts=%d state=%+v]", c.Name, c.Ready, c.RestartCount, c.State)
	}
	return s
}

func TestPodRunsAndIsDeleted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", nil)
		w.settle()
		p := w.wantRunning("a")
		if p.Status.StartTime == nil || p.Status.HostIP != "192.0.2.1" || p.Status.ContainerStatuses[0].ContainerID == "" {
			t.Errorf("status: %+v", p.Status)
		}
		w.delete("a", 30)
		w.settle()
		if p := w.get("a"); p != nil {
			t.Fatalf("pod is still there: %s", brief(p))
		}
		w.wantNothing()
	})
}

func TestNodeRegistersAndComesBack(t *testing.T) {
	inWorld(t, func(w *world) {
		n := w.theNode()
		if c := readyOf(n); c.Status != corev1.ConditionTrue || n.Labels[corev1.LabelHostname] != me || n.Status.Addresses[0].Address != "192.0.2.1" {
			t.Fatalf("node: %+v", n)
		}
		// While the node looks away the Master says otherwise.
		changed := n.DeepCopy()
		for i := range changed.Status.Conditions {
			if changed.Status.Conditions[i].Type == corev1.NodeReady {
				changed.Status.Conditions[i].Status = corev1.ConditionUnknown
			}
		}
		if _, err := w.api.Update(t.Context(), api.Nodes, changed, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		w.pass(5 * time.Second)
		if c := readyOf(w.theNode()); c.Status != corev1.ConditionTrue {
			t.Fatalf("ready: %+v", c)
		}
		rev := w.rev()
		w.pass(time.Hour)
		if now := w.rev(); now != rev {
			t.Fatalf("an idle node wrote: revision %d to %d", rev, now)
		}
	})
}

func (w *world) theNode() *corev1.Node {
	w.t.Helper()
	o, err := w.api.Get(w.t.Context(), api.Nodes, client.Key{Name: me}, client.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return o.(*corev1.Node)
}

func readyOf(n *corev1.Node) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestNodeIsNotReadyWhileTheRuntimeIsAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		for range 12 {
			w.runtime.Fail(fake.Pods, errors.New("not yet"))
		}
		t.Cleanup(w.halt)
		w.start()
		if c := readyOf(w.theNode()); c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" {
			t.Fatalf("ready: %+v", c)
		}
		w.pass(time.Minute)
		if c := readyOf(w.theNode()); c.Status != corev1.ConditionTrue {
			t.Fatalf("ready: %+v", c)
		}
	})
}
