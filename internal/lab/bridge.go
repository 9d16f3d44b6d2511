package lab

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// segment makes a bridge, a network segment that the host is connected to, and returns it. Making it again is harmless.
// Every segment has the host's address: a peer's route on the host says which segment the peer is on.
func segment(name string) (netlink.Link, error) {
	br, err := netlink.LinkByName(name)
	if err != nil {
		// Left alone, a bridge takes the lowest hardware address of its ports: when that machine's power is cut, the others would
		// send their answers to the host nowhere until they ask for its address again, seconds later.
		attrs := netlink.LinkAttrs{Name: name, HardwareAddr: macOf(hostAddress())}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", name, err)
		}
		if br, err = netlink.LinkByName(name); err != nil {
			return nil, err
		}
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(hostAddress()), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrReplace(br, addr); err != nil {
		return nil, fmt.Errorf("give bridge %s its address: %w", name, err)
	}
	return br, netlink.LinkSetUp(br)
}

func hostAddress() string { return subnet + "1" }

// plug connects the machine whose init is pid to its segment, with its address.
func (p *Peer) plug(pid int) error {
	br, err := segment(p.Bridge)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.link(), MasterIndex: br.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(pid),
		PeerHardwareAddr: p.mac(),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect %s: %w", p.Name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	if err := p.route(br); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	for name, addr := range map[string]string{"lo": "", "eth0": p.Address} {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if addr != "" {
			a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(addr), Mask: net.CIDRMask(prefixLen, 32)}}
			if err := h.AddrAdd(l, a); err != nil {
				return err
			}
		}
		if err := h.LinkSetUp(l); err != nil {
			return err
		}
	}
	return h.RouteAdd(&netlink.Route{Gw: net.ParseIP(hostAddress())})
}

// unplug removes a link. The kernel may be removing it at the same time, with the namespace of its other end.
func unplug(name string) error {
	link, err := netlink.LinkByName(name)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// mac is the same each time the machine is powered on, as a real one's is: others remember it.
func (p *Peer) mac() net.HardwareAddr { return macOf(p.Address) }

func macOf(address string) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x5a}, net.ParseIP(address).To4()...)
}

// route tells the host on which segment the peer is.
func (p *Peer) route(br netlink.Link) error {
	dst := &net.IPNet{IP: net.ParseIP(p.Address), Mask: net.CIDRMask(32, 32)}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK, Src: net.ParseIP(hostAddress())})
}

// move puts the peer's link onto another segment.
func (p *Peer) move(bridge string) error {
	br, err := segment(bridge)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(p.link())
	if err != nil {
		p.Bridge = bridge // a machine that is off is connected when it starts
		return nil
	}
	if err := netlink.LinkSetMaster(link, br); err != nil {
		return fmt.Errorf("move %s: %w", p.Name, err)
	}
	p.Bridge = bridge
	return p.route(br)
}

// setLink takes the peer's cable out, or puts it back.
func (p *Peer) setLink(up bool) error {
	link, err := netlink.LinkByName(p.link())
	if err != nil {
		return err
	}
	if up {
		return netlink.LinkSetUp(link)
	}
	return netlink.LinkSetDown(link)
}

// removeLinks removes every link and bridge of the lab.
func removeLinks() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		ours := l.Type() == "bridge" && strings.HasPrefix(name, bridgePrefix) || l.Type() == "veth" && strings.HasPrefix(name, "lab-peer-")
		if !ours {
			continue
		}
		errs = append(errs, unplug(name))
	}
	return errors.Join(errs...)
}
