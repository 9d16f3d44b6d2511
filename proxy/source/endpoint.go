package source

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Endpoint is one address behind one port of a Service.
type Endpoint struct {
	Addr     netip.AddrPort
	Protocol corev1.Protocol
	Node     string // empty when unknown
	Hostname string
	state    state
}

type state uint8

const (
	idle        state = iota // gets no traffic
	ready                    // gets traffic
	terminating              // still serves: gets traffic when nobody is ready
)

// Terminating reports whether e only gets traffic because, or when, nobody is ready.
func (e *Endpoint) Terminating() bool { return e.state == terminating }

// Usable reports whether e can get traffic at all.
func (e *Endpoint) Usable() bool { return e.state != idle }

// Endpoints returns what stands behind the port called name, sorted by address, an address once. Endpoints that are
// neither ready nor serving are included: they are known, but never chosen.
func Endpoints(all []*discoveryv1.EndpointSlice, name string, proto corev1.Protocol) []Endpoint {
	var out []Endpoint
	for _, sl := range all {
		if sl.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for i := range sl.Ports {
			p := &sl.Ports[i]
			if p.Port == nil || deref(p.Name, "") != name || deref(p.Protocol, corev1.ProtocolTCP) != proto {
				continue
			}
			out = slices.Grow(out, len(sl.Endpoints))
			out = appendSlice(out, sl, uint16(*p.Port), proto)
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		return rank(a.state) - rank(b.state) // the copy in the better state survives
	})
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}

// Addresses returns what stands behind a Service regardless of ports, for names that need none.
func Addresses(all []*discoveryv1.EndpointSlice) []Endpoint {
	var out []Endpoint
	for _, sl := range all {
		if sl.AddressType == discoveryv1.AddressTypeIPv4 {
			out = appendSlice(out, sl, 0, "")
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		return rank(a.state) - rank(b.state)
	})
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}

// EachTCP calls f for every endpoint of sl that connections can be made to, with its machine (empty when unknown).
func EachTCP(sl *discoveryv1.EndpointSlice, f func(node string, addr netip.AddrPort)) {
	if sl.AddressType != discoveryv1.AddressTypeIPv4 {
		return
	}
	for i := range sl.Ports {
		p := &sl.Ports[i]
		if p.Port == nil || deref(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
			continue
		}
		for _, e := range appendSlice(nil, sl, uint16(*p.Port), corev1.ProtocolTCP) {
			if e.Usable() {
				f(e.Node, e.Addr)
			}
		}
	}
}

// HasReady reports whether an address is that of a ready endpoint of sl, and not one that ends.
func HasReady(sl *discoveryv1.EndpointSlice, ip netip.Addr) bool {
	for i := range sl.Endpoints {
		e := &sl.Endpoints[i]
		if len(e.Addresses) == 0 || !deref(e.Conditions.Ready, true) || deref(e.Conditions.Terminating, false) {
			continue
		}
		if addr, err := netip.ParseAddr(e.Addresses[0]); err == nil && addr == ip {
			return true
		}
	}
	return false
}

func appendSlice(out []Endpoint, sl *discoveryv1.EndpointSlice, port uint16, proto corev1.Protocol) []Endpoint {
	for i := range sl.Endpoints {
		e := &sl.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		// Consumers use the first address only: the others are alternatives of the same endpoint.
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil || !addr.Is4() {
			continue
		}
		out = append(out, Endpoint{
			Addr: netip.AddrPortFrom(addr, port), Protocol: proto,
			Node: deref(e.NodeName, ""), Hostname: deref(e.Hostname, ""), state: stateOf(&e.Conditions),
		})
	}
	return out
}

func stateOf(c *discoveryv1.EndpointConditions) state {
	switch {
	case deref(c.Ready, true):
		return ready
	case deref(c.Terminating, false) && deref(c.Serving, true):
		return terminating
	}
	return idle
}

func rank(s state) int {
	switch s {
	case ready:
		return 0
	case terminating:
		return 1
	}
	return 2
}

// Choose returns the endpoints that get traffic: the ready ones that are not down; when there are none, those that
// terminate but serve; when all are down, all of them as if they were not: being wrong about a machine must not make it
// worse. down may be nil. The order is kept.
func Choose(all []Endpoint, down func(*Endpoint) bool) []Endpoint {
	for _, try := range []struct {
		s  state
		up bool
	}{{ready, true}, {terminating, true}, {ready, false}, {terminating, false}} {
		var out []Endpoint
		for i := range all {
			e := &all[i]
			if e.state == try.s && (!try.up || down == nil || !down(e)) {
				if out == nil {
					out = make([]Endpoint, 0, len(all))
				}
				out = append(out, *e)
			}
		}
		if len(out) > 0 {
			return out
		}
		if down == nil && try.s == terminating {
			return nil
		}
	}
	return nil
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
