package testcluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"shoal/internal/api"
	"shoal/internal/client"
)

// kubelet pretends to run the pods of a peer's Node: it registers the Node, makes pods that are bound to it Running and
// Ready, and confirms their ends. It works through its own peer's API, as package node does.
type kubelet struct {
	name   string
	log    *slog.Logger
	client *client.HTTP
	close  func()
	nodes  *client.Cache[*corev1.Node]
	pods   *client.Cache[*corev1.Pod]
	queue  client.Queue
	next   int // addresses given to pods; only the one worker uses it
}

func newKubelet(c *Cluster, name string, log *slog.Logger) *kubelet {
	k := &kubelet{name: name, log: log.With("component", "node")}
	k.client, k.close = newClient(c.net, name, nodePrefix+name)
	cache := func(kind *api.Kind, field string) client.CacheConfig {
		return client.CacheConfig{
			Client: k.client, Kind: kind, ListOptions: client.ListOptions{Fields: fields.OneTermEqualSelector(field, name)},
			Log: k.log, Detector: &c.detector,
		}
	}
	k.nodes = client.NewCache[*corev1.Node](cache(api.Nodes, "metadata.name"))
	k.pods = client.NewCache[*corev1.Pod](cache(api.Pods, "spec.nodeName"))
	return k
}

func (k *kubelet) run(ctx context.Context) error {
	defer k.close()
	k.queue = client.NewQueue()
	defer k.queue.ShutDown()
	k.pods.OnChange(func(old, p *corev1.Pod) { k.queue.Add(client.KeyOf(cmp.Or(p, old))) })
	k.nodes.OnChange(func(_, _ *corev1.Node) { k.queue.Add(client.Key{Name: k.name}) })
	k.queue.Add(client.Key{Name: k.name})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.pods.Run(ctx) })
	g.Go(func() error { return k.nodes.Run(ctx) })
	g.Go(func() error {
		if err := client.WaitSynced(ctx, k.pods, k.nodes); err != nil {
			return err
		}
		return client.RunLoop(ctx, client.LoopConfig[client.Key]{Name: "node", Queue: k.queue, Log: k.log, Reconcile: k.reconcile})
	})
	return g.Wait()
}

func (k *kubelet) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	// An answer that does not come must not stop the rest.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if key.Namespace == "" {
		return 0, k.beNode(ctx, key)
	}
	return 0, k.bePod(ctx, key)
}

func (k *kubelet) beNode(ctx context.Context, key client.Key) error {
	n, ok := k.nodes.Get(key)
	if !ok {
		n = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.name, Labels: map[string]string{corev1.LabelHostname: k.name}}}
		_, err := k.client.Create(ctx, api.Nodes, n, client.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // its event is on the way
		}
		return err
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
			return nil
		}
	}
	n = n.DeepCopy()
	n.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods: resource.MustParse("250"),
	}
	n.Status.Allocatable = n.Status.Capacity
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.168.7." + k.name[len("peer-"):]}, {Type: corev1.NodeHostName, Address: k.name},
	}
	n.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastTransitionTime: metav1.Now(),
	}}
	_, err := k.client.Update(ctx, api.Nodes, n, client.UpdateOptions{Subresource: "status"})
	return err
}

func (k *kubelet) bePod(ctx context.Context, key client.Key) error {
	p, ok := k.pods.Get(key)
	if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed && p.DeletionTimestamp == nil {
		return nil
	}
	if p.DeletionTimestamp != nil {
		_, err := k.client.Delete(ctx, api.Pods, key, client.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	if api.IsPodReady(p) {
		return nil
	}
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	if p.Status.PodIP == "" {
		ip, err := k.address()
		if err != nil {
			return err
		}
		p.Status.PodIP, p.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	if old := api.PodCondition(p, corev1.PodReady); old != nil {
		*old = ready
	} else {
		p.Status.Conditions = append(p.Status.Conditions, ready)
	}
	_, err := k.client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	return err
}

// address returns an address of the Node's range that none of its pods has.
func (k *kubelet) address() (string, error) {
	n, ok := k.nodes.Get(client.Key{Name: k.name})
	if !ok {
		return "", fmt.Errorf("node %s is not there yet", k.name)
	}
	r, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if err != nil {
		return "", fmt.Errorf("pod range of node %s: %w", k.name, err)
	}
	used := map[string]bool{}
	for _, p := range k.pods.List("", nil) {
		used[p.Status.PodIP] = true
	}
	for range 250 {
		k.next++
		b := r.Addr().As4()
		b[3] = byte(2 + k.next%250)
		if ip := netip.AddrFrom4(b).String(); !used[ip] {
			return ip, nil
		}
	}
	return "", fmt.Errorf("node %s has no address left", k.name)
}
