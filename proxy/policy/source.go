package policy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Config is what New needs.
type Config struct {
	Node     string // this machine's
	Client   client.Interface
	PodRange netip.Prefix // of the whole cluster
	Log      *slog.Logger
	// Detector is for tests: see client.CacheConfig.
	Detector *client.MutationDetector
}

// Source is this machine's copy of the policies and of the pods that they are about. It follows namespaces and pods only once there is a policy. Safe for
// concurrent use.
type Source struct {
	c          Config
	policies   *client.Cache[*networkingv1.NetworkPolicy]
	namespaces *client.Cache[*corev1.Namespace]
	pods       *client.Cache[*corev1.Pod]
	first      chan struct{} // closed when there is a policy
	once       sync.Once
	changed    func()

	mu   sync.Mutex
	here map[types.UID]Pod // what Place was told
}

// New returns a Source that is empty until Run.
func New(c Config) *Source {
	s := &Source{
		c: c, first: make(chan struct{}), changed: func() {}, here: map[types.UID]Pod{},
		policies:   client.NewCache[*networkingv1.NetworkPolicy](client.CacheConfig{Client: c.Client, Kind: api.NetworkPolicies, Log: c.Log, Detector: c.Detector}),
		namespaces: client.NewCache[*corev1.Namespace](client.CacheConfig{Client: c.Client, Kind: api.Namespaces, Log: c.Log, Detector: c.Detector}),
		pods:       client.NewCache[*corev1.Pod](client.CacheConfig{Client: c.Client, Kind: api.Pods, Log: c.Log, Detector: c.Detector, Keep: aboutPolicies}),
	}
	s.policies.OnChange(func(_, p *networkingv1.NetworkPolicy) {
		if p != nil {
			s.once.Do(func() { close(s.first) })
		}
		s.changed()
	})
	s.namespaces.OnChange(func(old, ns *corev1.Namespace) {
		if old == nil || ns == nil || !maps.Equal(old.Labels, ns.Labels) {
			s.changed()
		}
	})
	s.pods.OnChange(func(old, p *corev1.Pod) {
		if s.policies.Len() > 0 && !sameToPolicies(old, p) {
			s.changed()
		}
	})
	return s
}

// aboutPolicies returns what policies need of a pod: every machine remembers every pod.
func aboutPolicies(o api.Object) api.Object {
	p := o.(*corev1.Pod)
	ports := func(all []corev1.Container) []corev1.Container {
		var out []corev1.Container
		for i := range all {
			if len(all[i].Ports) > 0 {
				out = append(out, corev1.Container{Ports: all[i].Ports})
			}
		}
		return out
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels},
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork, InitContainers: ports(p.Spec.InitContainers), Containers: ports(p.Spec.Containers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP},
	}
}

// sameToPolicies reports whether two states of a pod are the same as far as policies are concerned.
func sameToPolicies(a, b *corev1.Pod) bool {
	if a == nil || b == nil {
		return a == b
	}
	return maps.Equal(a.Labels, b.Labels) && a.Status.PodIP == b.Status.PodIP && api.IsPodTerminal(a) == api.IsPodTerminal(b) && a.Spec.NodeName == b.Spec.NodeName
}

// OnChange sets what is called after every change. f must not block. Must be called before Run.
func (s *Source) OnChange(f func()) { s.changed = f }

// Run keeps the copy up to date until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.policies.Run(ctx) })
	g.Go(func() error {
		if err := client.WaitSynced(ctx, s.policies); err != nil {
			return err
		}
		s.changed()
		select {
		case <-s.first:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.Go(func() error { return s.namespaces.Run(ctx) })
		g.Go(func() error { return s.pods.Run(ctx) })
		if err := client.WaitSynced(ctx, s.namespaces, s.pods); err != nil {
			return err
		}
		s.changed()
		return nil
	})
	return g.Wait()
}

// Facts returns what is known now, and false while it is not complete.
func (s *Source) Facts() (*Facts, bool) {
	if !closed(s.policies.Synced()) {
		return nil, false
	}
	f := &Facts{PodRange: s.c.PodRange, Policies: s.policies.List("", nil)}
	if len(f.Policies) == 0 {
		return f, true
	}
	if !closed(s.namespaces.Synced()) || !closed(s.pods.Synced()) {
		return nil, false
	}
	f.Namespaces = s.namespaces.List("", nil)
	f.Pods = s.allPods()
	return f, true
}

// allPods returns every pod with an address. What Place said of a pod's address is newer than its status.
func (s *Source) allPods() []Pod {
	s.mu.Lock()
	here := maps.Clone(s.here)
	s.mu.Unlock()
	all := s.pods.List("", nil)
	out := make([]Pod, 0, len(all))
	for _, p := range all {
		placed, told := here[p.UID]
		delete(here, p.UID)
		if told {
			out = append(out, Pod{p, placed.Addr, true})
			continue
		}
		addr, err := netip.ParseAddr(p.Status.PodIP)
		if p.Spec.HostNetwork || api.IsPodTerminal(p) || err != nil || !addr.Is4() {
			continue
		}
		out = append(out, Pod{p, addr, p.Spec.NodeName == s.c.Node})
	}
	return slices.AppendSeq(out, maps.Values(here)) // which the copy does not have yet, or never will
}

// Place says that a pod of this machine has an address, from now until Remove. It returns when the policies that were there when p was read are known,
// and tells whether any selects it. Before, the pod must not run.
func (s *Source) Place(ctx context.Context, p *corev1.Pod, addr netip.Addr) (concerned bool, err error) {
	s.mu.Lock()
	s.here[p.UID] = Pod{p, addr, true}
	s.mu.Unlock()
	if p.ResourceVersion != "" {
		// The copy may be older than the pod.
		l, err := s.c.Client.List(ctx, api.NetworkPolicies, client.ListOptions{Namespace: p.Namespace, ResourceVersion: p.ResourceVersion})
		if err != nil {
			return false, fmt.Errorf("read NetworkPolicies of %s: %w", p.Namespace, err)
		}
		for _, o := range l.Items {
			if err := s.policies.WaitFor(ctx, o.GetResourceVersion()); err != nil {
				return false, fmt.Errorf("wait for NetworkPolicy %s/%s: %w", p.Namespace, o.GetName(), err)
			}
		}
	}
	for _, policy := range s.policies.List(p.Namespace, nil) {
		if selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector); err == nil && selector.Matches(labels.Set(p.Labels)) {
			return true, nil
		}
	}
	if s.policies.Len() > 0 {
		s.changed() // others' may let it call them
	}
	return false, nil
}

// Remove says that a pod has no address any more.
func (s *Source) Remove(uid types.UID) {
	s.mu.Lock()
	_, was := s.here[uid]
	delete(s.here, uid)
	s.mu.Unlock()
	if was && s.policies.Len() > 0 {
		s.changed()
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
