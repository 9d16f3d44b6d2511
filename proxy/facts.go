package proxy

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/client"
	"shoal/proxy/policy"
	"shoal/proxy/source"
)

// Facts is everything that rules are made from.
type Facts struct {
	Node        string       // this machine's Node
	PodCIDR     netip.Prefix // of the whole cluster
	ServiceCIDR netip.Prefix
	Services    []*corev1.Service
	Slices      map[client.Key][]*discoveryv1.EndpointSlice
	HostPorts   []HostPort
	// HostPortsKnown is false while it is not known which there are: those in the kernel stay.
	HostPortsKnown bool
	// Isolations are what NetworkPolicies let this machine's pods receive and send.
	Isolations []policy.Isolation
	// OtherDNS is the address of the Service that pods ask for names when their own machine does not answer: so no endpoint of this machine stands behind it
	// while there is another, and whatever policies say, pods may ask it.
	OtherDNS netip.Addr
	// PoliciesKnown is false while these are not known: those in the kernel stay.
	PoliciesKnown bool
	// Down tells which endpoints are presumed unreachable; nil means none. It must be a function of its argument.
	Down func(*source.Endpoint) bool
}

// port is one port of one Service with the endpoints chosen for it.
type port struct {
	name     string // ns/name:port
	hash     string // of name and protocol
	proto    string // tcp, udp
	vip      netip.Addr
	number   uint16
	nodePort uint16
	// externalIPs are addresses outside the service range: spec.externalIPs and those a load balancer gave.
	externalIPs                  []netip.Addr
	affinity                     int32 // seconds; zero means none
	internalLocal, externalLocal bool

	all    []netip.AddrPort // chosen in the cluster
	local  []netip.AddrPort // chosen on this machine; only filled in when a policy asks for it
	known  []netip.AddrPort // every endpoint that exists and is not down, chosen or not
	selves []netip.Addr     // chosen pods that may be callers on this machine
}

func (p *port) internal() []netip.AddrPort {
	if p.internalLocal {
		return p.local
	}
	return p.all
}

func (p *port) external() []netip.AddrPort {
	if p.externalLocal {
		return p.local
	}
	return p.all
}

// ports returns the ports of all Services that have a cluster IP, in a fixed order.
func (f *Facts) ports() []port {
	services := slices.SortedFunc(slices.Values(f.Services), func(a, b *corev1.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	out := make([]port, 0, len(services))
	for _, svc := range services {
		if !source.HasVIP(svc) {
			continue
		}
		vip, err := netip.ParseAddr(svc.Spec.ClusterIP)
		if err != nil || !vip.Is4() {
			continue
		}
		key := client.Key{Namespace: svc.Namespace, Name: svc.Name}
		for i := range svc.Spec.Ports {
			if p, ok := f.port(svc, &svc.Spec.Ports[i], vip, key); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

func (f *Facts) port(svc *corev1.Service, sp *corev1.ServicePort, vip netip.Addr, key client.Key) (port, bool) {
	proto, ok := protocol(sp.Protocol)
	if !ok {
		return port{}, false
	}
	p := port{
		name: key.Namespace + "/" + key.Name, proto: proto, vip: vip,
		number: uint16(sp.Port), nodePort: uint16(sp.NodePort),
		externalIPs:   externalIPs(svc),
		internalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		externalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		affinity:      affinity(svc),
	}
	if sp.Name != "" {
		p.name += ":" + sp.Name
	}
	p.hash = hashOf(p.name + "/" + proto)

	endpoints := source.Endpoints(f.Slices[key], sp.Name, cmp.Or(sp.Protocol, corev1.ProtocolTCP))
	chosen := source.Choose(endpoints, f.Down)
	if vip == f.OtherDNS {
		if others := slices.DeleteFunc(slices.Clone(chosen), func(e source.Endpoint) bool { return e.Node == f.Node }); len(others) > 0 {
			chosen = others
		}
	}
	p.all = addrs(chosen)
	p.selves = f.selves(chosen)
	if p.internalLocal || p.externalLocal {
		here := slices.Clone(endpoints)
		here = slices.DeleteFunc(here, func(e source.Endpoint) bool { return e.Node != f.Node })
		p.local = addrs(source.Choose(here, f.Down))
	}
	p.known = f.known(endpoints)
	return p, true
}

// selves returns the pods that may call themselves through this machine: its own, and those of an unknown machine.
func (f *Facts) selves(chosen []source.Endpoint) []netip.Addr {
	var out []netip.Addr
	for i := range chosen {
		if e := &chosen[i]; (e.Node == f.Node || e.Node == "") && f.PodCIDR.Contains(e.Addr.Addr()) {
			out = append(out, e.Addr.Addr())
		}
	}
	return out
}

// known returns the endpoints that exist and are reachable as far as is known: connections to them may go on.
func (f *Facts) known(all []source.Endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(all))
	for i := range all {
		if f.Down == nil || !f.Down(&all[i]) {
			out = append(out, all[i].Addr)
		}
	}
	return out
}

func addrs(all []source.Endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, len(all))
	for i := range all {
		out[i] = all[i].Addr
	}
	return out
}

func externalIPs(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, s := range svc.Spec.ExternalIPs {
		add(s)
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			add(in.IP)
		}
	}
	return out
}

func affinity(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return max(*c.ClientIP.TimeoutSeconds, 1)
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}
