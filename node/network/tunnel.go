package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tunnelName     = "shoal-vx"
	tunnelID       = 1
	tunnelPort     = 8472
	tunnelOverhead = 50
)

// ensureTunnel makes the VXLAN link, with an entry for every machine that is not on a shared link, and returns its
// index; without such machines it removes the link and returns 0. Nothing is learned from packets: hardware addresses
// follow from pod CIDRs.
func ensureTunnel(own machine, hops []hop, mtu int) (int, error) {
	var far []hop
	for _, h := range hops {
		if h.tunnel {
			far = append(far, h)
		}
	}
	if len(far) == 0 || !own.addr.IsValid() {
		return 0, removeLink(tunnelName)
	}
	link, err := tunnelLink(own, mtu)
	if err != nil {
		return 0, err
	}
	if err := tunnelNeighbours(link, far); err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

func tunnelLink(own machine, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = tunnelName, macOf(own.pods.Addr()), mtu
	want := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: tunnelID, Port: tunnelPort, SrcAddr: own.addr.AsSlice(), Learning: false,
	}
	have, err := netlink.LinkByName(tunnelName)
	if err == nil {
		vx, ok := have.(*netlink.Vxlan)
		if ok && vx.SrcAddr.Equal(want.SrcAddr) && vx.HardwareAddr.String() == want.HardwareAddr.String() && vx.MTU == mtu {
			return have, nil
		}
		if err := netlink.LinkDel(have); err != nil {
			return nil, fmt.Errorf("remove old tunnel: %w", err)
		}
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("look for tunnel: %w", err)
	}
	if err := netlink.LinkAdd(want); err != nil {
		return nil, fmt.Errorf("create tunnel: %w", err)
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(own.pods.Addr(), 32))}
	if err := netlink.AddrAdd(want, addr); err != nil {
		return nil, fmt.Errorf("add address to tunnel: %w", err)
	}
	if err := netlink.LinkSetUp(want); err != nil {
		return nil, fmt.Errorf("set tunnel up: %w", err)
	}
	return netlink.LinkByName(tunnelName)
}

// tunnelNeighbours makes the tunnel's tables exactly those of far.
func tunnelNeighbours(link netlink.Link, far []hop) error {
	index := link.Attrs().Index
	want := map[string]netlink.Neigh{}
	for _, h := range far {
		mac := macOf(h.pods.Addr())
		arp := netlink.Neigh{
			LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
			IP: h.pods.Addr().AsSlice(), HardwareAddr: mac,
		}
		fdb := netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
			IP: h.addr.AsSlice(), HardwareAddr: mac,
		}
		want[neighKey(arp)], want[neighKey(fdb)] = arp, fdb
	}
	var gone []netlink.Neigh
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		have, err := netlink.NeighList(index, family)
		if err != nil {
			return fmt.Errorf("list tunnel neighbours: %w", err)
		}
		for _, h := range have {
			h.Family = family
			if _, ok := want[neighKey(h)]; ok {
				delete(want, neighKey(h))
			} else if h.State&netlink.NUD_PERMANENT != 0 && h.IP != nil {
				gone = append(gone, h)
			}
		}
	}
	for _, g := range gone {
		if g.Family == unix.AF_BRIDGE {
			g.Flags = netlink.NTF_SELF
		}
		if err := netlink.NeighDel(&g); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove tunnel neighbour %s: %w", g.IP, err)
		}
	}
	for _, w := range want {
		if err := netlink.NeighSet(&w); err != nil {
			return fmt.Errorf("set tunnel neighbour %s: %w", w.IP, err)
		}
	}
	return nil
}

func neighKey(n netlink.Neigh) string {
	return fmt.Sprint(n.Family, n.IP, net.HardwareAddr(n.HardwareAddr))
}

// removeLink removes a link if it is there.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}
