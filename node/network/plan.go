package network

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// machine is what the network needs to know of one Node.
type machine struct {
	name string
	pods netip.Prefix
	addr netip.Addr // InternalIP
}

// machineOf returns false for a Node that has no pod CIDR or address yet.
func machineOf(n *corev1.Node) (machine, bool) {
	m := machine{name: n.Name}
	pods, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if err != nil || !pods.Addr().Is4() {
		return m, false
	}
	m.pods = pods.Masked()
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && addr.Is4() {
			m.addr = addr
			break
		}
	}
	return m, true
}

// split returns this machine (false when its Node is not there yet) and those that others can be reached at, by name.
func split(nodes []*corev1.Node, self string) (own machine, known bool, others []machine) {
	for _, n := range nodes {
		m, ok := machineOf(n)
		switch {
		case !ok:
		case m.name == self:
			own, known = m, true
		case m.addr.IsValid():
			others = append(others, m)
		}
	}
	slices.SortFunc(others, func(a, b machine) int { return cmp.Compare(a.name, b.name) })
	return own, known, others
}

// macOf derives a locally administered hardware address from an IPv4 one. Whoever gets an address again answers with
// the same hardware address, so neighbours' caches stay right; and machines know one another's without asking.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}
