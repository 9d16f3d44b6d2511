package policy

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// world finds the pods that selectors mean.
type world struct {
	podRange   netip.Prefix
	namespaces []*corev1.Namespace
	pods       map[string][]*Pod // by namespace
}

func newWorld(f *Facts) *world {
	w := &world{podRange: f.PodRange, namespaces: f.Namespaces, pods: map[string][]*Pod{}}
	for i := range f.Pods {
		p := &f.Pods[i]
		w.pods[p.Namespace] = append(w.pods[p.Namespace], p)
	}
	return w
}

// allow returns what some policies allow a pod.
func (w *world) allow(chosen []policy, pod *Pod, egress bool) []Allow {
	var out []Allow
	add := func(a Allow) {
		if !slices.ContainsFunc(out, func(b Allow) bool { return slices.Equal(a.Peers, b.Peers) && slices.Equal(a.Ports, b.Ports) }) {
			out = append(out, a)
		}
	}
	for _, p := range chosen {
		if egress {
			for i := range p.Spec.Egress {
				r := &p.Spec.Egress[i]
				for _, a := range w.egress(p.Namespace, r.To, r.Ports) {
					add(a)
				}
			}
			continue
		}
		for i := range p.Spec.Ingress {
			r := &p.Spec.Ingress[i]
			ports, some := portsOf(r.Ports, pod)
			if !some {
				continue
			}
			if len(r.From) == 0 {
				add(Allow{Ports: ports})
			} else if _, peers := w.peers(p.Namespace, r.From); len(peers) > 0 {
				add(Allow{Peers: peers, Ports: ports})
			}
		}
	}
	return out
}

// egress returns what one rule allows. The name of a port means another number for each pod that is called.
func (w *world) egress(namespace string, to []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) []Allow {
	if !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return nameOf(&p) != "" }) {
		numbers, _ := portsOf(ports, nil)
		if len(to) == 0 {
			return []Allow{{Ports: numbers}}
		}
		if _, peers := w.peers(namespace, to); len(peers) > 0 {
			return []Allow{{Peers: peers, Ports: numbers}}
		}
		return nil
	}
	var out []Allow
	if numbers, some := portsOf(ports, nil); some { // those that have numbers, for whoever is no pod
		if len(to) == 0 {
			out = append(out, Allow{Ports: numbers})
		} else if _, peers := w.peers(namespace, to); len(peers) > 0 {
			out = append(out, Allow{Peers: peers, Ports: numbers})
		}
	}
	pods, _ := w.peers(namespace, to)
	if len(to) == 0 {
		for _, all := range w.pods {
			pods = append(pods, all...)
		}
	}
	slices.SortFunc(pods, func(a, b *Pod) int { return a.Addr.Compare(b.Addr) })
	for _, p := range pods {
		numbers, some := portsOf(slices.DeleteFunc(slices.Clone(ports), func(p networkingv1.NetworkPolicyPort) bool { return nameOf(&p) == "" }), p)
		if !some {
			continue
		}
		peer := netip.PrefixFrom(p.Addr, p.Addr.BitLen())
		if i := slices.IndexFunc(out, func(a Allow) bool { return a.Peers != nil && slices.Equal(a.Ports, numbers) }); i >= 0 {
			out[i].Peers = append(out[i].Peers, peer)
		} else {
			out = append(out, Allow{Peers: []netip.Prefix{peer}, Ports: numbers})
		}
	}
	for i := range out {
		slices.SortFunc(out[i].Peers, netip.Prefix.Compare)
		out[i].Peers = slices.Compact(out[i].Peers)
	}
	return out
}

// peers returns the pods that some peers mean, and all addresses that they mean: those of these pods, and ranges.
func (w *world) peers(namespace string, peers []networkingv1.NetworkPolicyPeer) ([]*Pod, []netip.Prefix) {
	var pods []*Pod
	var out []netip.Prefix
	for i := range peers {
		peer := &peers[i]
		if peer.IPBlock != nil {
			out = append(out, rangesOf(peer.IPBlock)...)
			continue
		}
		chosen := w.choose(namespace, peer)
		pods = append(pods, chosen...)
		if peer.NamespaceSelector != nil && isEmpty(peer.NamespaceSelector) && isEmpty(peer.PodSelector) {
			// Every pod: their range says it in one rule.
			out = append(out, w.podRange)
			continue
		}
		for _, p := range chosen {
			out = append(out, netip.PrefixFrom(p.Addr, p.Addr.BitLen()))
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return pods, slices.Compact(out)
}

// choose returns the pods that a peer's selectors mean.
func (w *world) choose(namespace string, peer *networkingv1.NetworkPolicyPeer) []*Pod {
	which := labels.Everything()
	if peer.PodSelector != nil {
		s, err := metav1.LabelSelectorAsSelector(peer.PodSelector)
		if err != nil {
			return nil
		}
		which = s
	}
	var out []*Pod
	in := func(namespace string) {
		for _, p := range w.pods[namespace] {
			if which.Matches(labels.Set(p.Labels)) {
				out = append(out, p)
			}
		}
	}
	if peer.NamespaceSelector == nil {
		in(namespace)
		return out
	}
	where, err := metav1.LabelSelectorAsSelector(peer.NamespaceSelector)
	if err != nil {
		return nil
	}
	for _, ns := range w.namespaces {
		if where.Matches(labels.Set(ns.Labels)) {
			in(ns.Name)
		}
	}
	return out
}

func isEmpty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0
}

// portsOf reads ports; those with names are a pod's, and nobody's without one. None at all mean every port (nil, true); some is false when none is left.
func portsOf(ports []networkingv1.NetworkPolicyPort, pod *Pod) (out []Ports, some bool) {
	if len(ports) == 0 {
		return nil, true
	}
	for i := range ports {
		p := &ports[i]
		proto := protocolOf(p)
		switch name := nameOf(p); {
		case p.Port == nil:
			out = append(out, Ports{proto, 0, 65535})
		case name != "":
			for _, n := range named(pod, name, proto) {
				out = append(out, Ports{proto, n, n})
			}
		default:
			r := Ports{proto, uint16(p.Port.IntVal), uint16(p.Port.IntVal)}
			if p.EndPort != nil {
				r.Last = uint16(*p.EndPort)
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Ports) int {
		if c := strings.Compare(a.Protocol, b.Protocol); c != 0 {
			return c
		}
		return int(a.First) - int(b.First)
	})
	return slices.Compact(out), len(out) > 0
}

func protocolOf(p *networkingv1.NetworkPolicyPort) string {
	if p.Protocol == nil {
		return "tcp"
	}
	return strings.ToLower(string(*p.Protocol))
}

func nameOf(p *networkingv1.NetworkPolicyPort) string {
	if p.Port == nil || p.Port.Type != intstr.String {
		return ""
	}
	return p.Port.StrVal
}

// named returns the numbers that a name stands for in a pod, sorted.
func named(pod *Pod, name, proto string) []uint16 {
	if pod == nil {
		return nil
	}
	var out []uint16
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if port.Name == name && (strings.EqualFold(string(port.Protocol), proto) || port.Protocol == "" && proto == "tcp") {
					out = append(out, uint16(port.ContainerPort))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rangesOf returns a block without its exceptions. Those that cannot be read allow nothing.
func rangesOf(b *networkingv1.IPBlock) []netip.Prefix {
	all, err := netip.ParsePrefix(b.CIDR)
	if err != nil || !all.Addr().Is4() {
		return nil
	}
	out := []netip.Prefix{all.Masked()}
	for _, text := range b.Except {
		part, err := netip.ParsePrefix(text)
		if err != nil {
			return nil
		}
		var left []netip.Prefix
		for _, p := range out {
			left = append(left, without(p, part.Masked())...)
		}
		out = left
	}
	return out
}

// without returns all but part, in as few prefixes as can be.
func without(all, part netip.Prefix) []netip.Prefix {
	switch {
	case !all.Overlaps(part):
		return []netip.Prefix{all}
	case part.Bits() <= all.Bits():
		return nil
	}
	// Half of all has part in it; the other half is left whole.
	var out []netip.Prefix
	for bits := all.Bits() + 1; bits <= part.Bits(); bits++ {
		inner := netip.PrefixFrom(part.Addr(), bits).Masked()
		out = append(out, netip.PrefixFrom(flip(inner.Addr(), bits-1), bits))
	}
	return out
}

// flip changes one bit of an IPv4 address; 0 is the first.
func flip(a netip.Addr, bit int) netip.Addr {
	b := a.As4()
	b[bit/8] ^= 0x80 >> (bit % 8)
	return netip.AddrFrom4(b)
}
