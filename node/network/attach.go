package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

const (
	podPrefix  = "pod"
	podLinkLen = unix.IFNAMSIZ - 1
	inside     = "eth0"
)

// linkName is the name of the machine's end of a pod's link.
func linkName(uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	return (podPrefix + hex.EncodeToString(sum[:]))[:podLinkLen]
}

func isPodLink(name string) bool {
	if len(name) != podLinkLen || !strings.HasPrefix(name, podPrefix) {
		return false
	}
	return strings.Trim(name[len(podPrefix):], "0123456789abcdef") == ""
}

// Attach is Interface's.
func (m *Machine) Attach(ctx context.Context, uid types.UID, path string, recorded netip.Addr) (netip.Addr, error) {
	if err := m.Ready(ctx); err != nil {
		return netip.Addr{}, err
	}
	m.mu.Lock()
	addr, err := m.pool.take(uid, recorded)
	prefix, gateway, bridge, mtu := m.pool.prefix, m.gateway, m.bridge, m.mtu
	m.mu.Unlock()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address for pod %s: %w", uid, err)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	pod, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer pod.Close()

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = linkName(uid), mtu, bridge
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: inside, PeerHardwareAddr: macOf(addr), PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(ns),
	}
	err = netlink.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		if attached(pod, attrs.Name) {
			return addr, nil
		}
		// The link leads elsewhere, or is half made.
		if err = removeLink(attrs.Name); err == nil {
			_ = removeInside(pod)
			err = netlink.LinkAdd(veth)
		}
	}
	if err == nil {
		err = outer(veth)
	}
	if err == nil {
		err = inner(pod, netip.PrefixFrom(addr, prefix.Bits()), gateway)
	}
	if err != nil {
		return netip.Addr{}, errors.Join(fmt.Errorf("attach pod %s at %s: %w", uid, addr, err), removeLink(attrs.Name))
	}
	return addr, nil
}

// attached reports whether the machine's end called name leads to a working link in pod.
func attached(pod *netlink.Handle, name string) bool {
	out, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	in, err := pod.LinkByName(inside)
	if err != nil || in.Attrs().ParentIndex != out.Attrs().Index || in.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	// The default route is what inner sets last.
	routes, err := pod.RouteList(in, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, r := range routes {
		if r.Gw != nil {
			return true
		}
	}
	return false
}

func removeInside(pod *netlink.Handle) error {
	link, err := pod.LinkByName(inside)
	if err != nil {
		return err
	}
	return pod.LinkDel(link)
}

// outer sets the machine's end up.
func outer(veth *netlink.Veth) error {
	// A pod that calls its own Service is answered through the port it came from.
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("set hairpin: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set link up: %w", err)
	}
	return nil
}

// inner sets the pod's end up.
func inner(pod *netlink.Handle, addr netip.Prefix, gateway netip.Addr) error {
	if lo, err := pod.LinkByName("lo"); err != nil {
		return fmt.Errorf("find lo: %w", err)
	} else if err := pod.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	eth, err := pod.LinkByName(inside)
	if err != nil {
		return fmt.Errorf("find %s: %w", inside, err)
	}
	if err := pod.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	if err := pod.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up: %w", inside, err)
	}
	if err := pod.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// Detach is Interface's.
func (m *Machine) Detach(_ context.Context, uid types.UID) error {
	if err := removeLink(linkName(uid)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.release(uid)
	return nil
}

// Keep is Interface's.
func (m *Machine) Keep(_ context.Context, pods map[types.UID]netip.Addr) error {
	names := map[string]bool{}
	m.mu.Lock()
	for uid, addr := range pods {
		names[linkName(uid)] = true
		if addr.IsValid() && !m.pool.reserve(uid, addr) {
			m.c.Log.Warn("two pods claim one address", "uid", uid, "addr", addr)
		}
	}
	m.mu.Unlock()
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; l.Type() == "veth" && isPodLink(name) && !names[name] {
			if err := removeLink(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clean removes every link, address and route that Machines made in this network namespace. None may be running.
func Clean(_ context.Context, bridge string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		if name == bridge || name == tunnelName || l.Type() == "veth" && isPodLink(name) {
			if err := removeLink(name); err != nil {
				return err
			}
		}
	}
	return applyRoutes(nil)
}
