package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	routeProtocol = 83 // marks routes as ours; nobody else's in iproute2's list
	defaultMTU    = 1500
)

// hop is how packets for another machine's pods leave this one.
type hop struct {
	machine
	link   int // index; of the tunnel's when tunnel
	tunnel bool
}

// ensureRoutes makes our routes exactly those to the others' pods and to the services, and returns the MTU for pods.
func (m *Machine) ensureRoutes(own machine, others []machine, bridge netlink.Link) (int, error) {
	hops := m.hops(others)
	link := linkMTU(own.addr)
	mtu := m.c.MTU
	if mtu == 0 {
		mtu = link
		if slices.ContainsFunc(hops, func(h hop) bool { return h.tunnel }) {
			mtu -= tunnelOverhead
		}
	}
	tunnel, err := ensureTunnel(own, hops, link-tunnelOverhead)
	if err != nil {
		return 0, err
	}
	gateway := gatewayOf(own.pods).AsSlice()
	want := map[string]netlink.Route{}
	add := func(r netlink.Route) {
		r.Protocol = routeProtocol
		want[r.Dst.String()] = r
	}
	// Only translated packets get anywhere, but a process needs a route and an address before its first packet is.
	add(netlink.Route{Dst: ipNet(m.c.ServiceCIDR.Masked()), LinkIndex: bridge.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: gateway})
	for _, h := range hops {
		if !h.tunnel {
			add(netlink.Route{Dst: ipNet(h.pods), LinkIndex: h.link, Gw: h.addr.AsSlice()})
			continue
		}
		add(netlink.Route{
			Dst: ipNet(h.pods), LinkIndex: tunnel, Gw: h.pods.Addr().AsSlice(), Src: gateway, Flags: int(netlink.FLAG_ONLINK),
		})
	}
	return mtu, applyRoutes(want)
}

// applyRoutes replaces our routes by want, by destination. A route is never missing in between.
func applyRoutes(want map[string]netlink.Route) error {
	have, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	right := map[string]bool{}
	var gone []netlink.Route
	for _, h := range have {
		if h.Dst == nil {
			continue
		}
		w, wanted := want[h.Dst.String()]
		switch {
		case !wanted:
			gone = append(gone, h)
		case w.LinkIndex == h.LinkIndex && w.Gw.Equal(h.Gw) && (w.Src == nil || w.Src.Equal(h.Src)):
			right[h.Dst.String()] = true
		}
	}
	for dst, w := range want {
		if right[dst] {
			continue
		}
		if err := netlink.RouteReplace(&w); err != nil {
			return fmt.Errorf("set route to %s: %w", dst, err)
		}
	}
	for _, g := range gone {
		if err := netlink.RouteDel(&g); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s: %w", g.Dst, err)
		}
	}
	return nil
}

// hops asks the kernel how each machine is reached: on a link that is shared with it, or by way of a router, which
// knows nothing of pods.
func (m *Machine) hops(others []machine) []hop {
	var out []hop
	for _, o := range others {
		routes, err := netlink.RouteGet(o.addr.AsSlice())
		if err != nil || len(routes) == 0 {
			// Its link is down, perhaps. The others must not wait for it; a change of links brings us back here.
			m.c.Log.Warn("no route to node", "node", o.name, "addr", o.addr, "err", err)
			continue
		}
		out = append(out, hop{machine: o, link: routes[0].LinkIndex, tunnel: routes[0].Gw != nil})
	}
	return out
}

// linkMTU returns the MTU of the link that has addr.
func linkMTU(addr netip.Addr) int {
	if !addr.IsValid() {
		return defaultMTU
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return defaultMTU
	}
	for _, a := range all {
		if got, ok := netip.AddrFromSlice(a.IP.To4()); ok && got == addr {
			if link, err := netlink.LinkByIndex(a.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return defaultMTU
}
