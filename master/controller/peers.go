package controller

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/client"
)

// The Services that every peer stands behind. They have no selector.
const (
	APIService      = "kubernetes"     // in default: the API
	DNSService      = "kube-dns"       // in kube-system: DNS of the caller's own peer
	DNSPeersService = "kube-dns-peers" // in kube-system: DNS of any peer
)

// peers writes the endpoints of those Services, from the Nodes. Every Node's endpoint counts as ready: who is
// reachable is a matter of gossip, and each proxy knows that sooner.
type peers struct {
	endpointWriter
	queue client.Queue
}

func newPeers(c Config) loop {
	p := &peers{endpointWriter{c, "peers.shoal"}, client.NewQueue()}
	add := func(key client.Key) {
		if p.backends(key, nil) != nil {
			p.queue.Add(key)
		}
	}
	c.Caches.Services.OnChange(func(old, s *corev1.Service) { add(client.KeyOf(cmp.Or(s, old))) })
	c.Caches.Endpoints.OnChange(func(old, e *corev1.Endpoints) { add(client.KeyOf(cmp.Or(e, old))) })
	c.Caches.Slices.OnChange(func(old, s *discoveryv1.EndpointSlice) {
		s = cmp.Or(s, old)
		add(client.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
	})
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if old != nil && n != nil && internalIP(old) == internalIP(n) && old.Spec.PodCIDR == n.Spec.PodCIDR && zoneOf(old) == zoneOf(n) {
			return
		}
		add(client.Key{Namespace: metav1.NamespaceDefault, Name: APIService})
		add(client.Key{Namespace: metav1.NamespaceSystem, Name: DNSService})
		add(client.Key{Namespace: metav1.NamespaceSystem, Name: DNSPeersService})
	})
	return newLoop("peers", p.queue, 1, p.reconcile)
}

func (p *peers) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	s, ok := p.Caches.Services.Get(key)
	if !ok || len(s.Spec.Selector) > 0 {
		return 0, nil // bootstrap makes it anew in the next term; its slices go with their owner
	}
	backends := p.backends(key, p.Caches.Nodes.List("", nil))
	subsets, truncated := renderSubsets(s, backends)
	return 0, p.write(ctx, s, groupBackends(nil, backends), subsets, truncated)
}

// backends returns what stands behind the Service: nil when it is none of ours.
func (p *peers) backends(key client.Key, nodes []*corev1.Node) []backend {
	var address func(*corev1.Node) string
	var ports []discoveryv1.EndpointPort
	port := func(name string, protocol corev1.Protocol, n int32) {
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &n})
	}
	switch key {
	case client.Key{Namespace: metav1.NamespaceDefault, Name: APIService}:
		address = internalIP
		port("https", corev1.ProtocolTCP, 6443)
	case client.Key{Namespace: metav1.NamespaceSystem, Name: DNSService}, client.Key{Namespace: metav1.NamespaceSystem, Name: DNSPeersService}:
		address = gateway
		port("dns", corev1.ProtocolUDP, 53)
		port("dns-tcp", corev1.ProtocolTCP, 53)
	default:
		return nil
	}
	out := []backend{}
	for _, n := range nodes {
		if a := address(n); a != "" && n.DeletionTimestamp == nil {
			out = append(out, backend{
				addresses: []string{a}, ready: true, serving: true, node: n.Name, zone: zoneOf(n), ports: ports,
			})
		}
	}
	slices.SortFunc(out, func(a, b backend) int { return cmp.Compare(a.node, b.node) })
	return out
}

func internalIP(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// gateway is the first address of the Node's pods' range, where its DNS listens.
func gateway(n *corev1.Node) string {
	prefix, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if err != nil {
		return ""
	}
	return prefix.Masked().Addr().Next().String()
}
