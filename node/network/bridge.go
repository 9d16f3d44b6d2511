package network

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// ensureBridge returns the bridge with the gateway's address, up.
func (m *Machine) ensureBridge(pods netip.Prefix, gateway netip.Addr) (netlink.Link, error) {
	name := m.c.Bridge
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		// Left alone, a bridge takes the lowest address of its ports, and changes it as pods come and go.
		attrs.HardwareAddr = macOf(gateway)
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err == nil {
			link, err = netlink.LinkByName(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("link %s is a %s, not a bridge: remove it or configure another name", name, link.Type())
	}
	want := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway, pods.Bits()))}
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	found := false
	for _, a := range have {
		if a.Equal(*want) {
			found = true
		} else if err := netlink.AddrDel(link, &a); err != nil {
			return nil, fmt.Errorf("remove address %s from %s: %w", a.IPNet, name, err)
		}
	}
	if !found {
		if err := netlink.LinkSetHardwareAddr(link, macOf(gateway)); err != nil {
			return nil, fmt.Errorf("set hardware address of %s: %w", name, err)
		}
		if err := netlink.AddrAdd(link, want); err != nil {
			return nil, fmt.Errorf("add address %s to %s: %w", want.IPNet, name, err)
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return link, nil
}

// settings makes the kernel forward, and translate what is bridged.
func settings(log *slog.Logger, bridge string) error {
	const ip = "/proc/sys/net/ipv4/"
	for _, s := range []struct {
		path, value string
		optional    bool
	}{
		{ip + "ip_forward", "1", false},
		// Answers of a Service may come in by another link than the route back to the caller.
		{ip + "conf/all/rp_filter", "2", false},
		// A Service's address is routed to the bridge that a pod's packet comes from: told so, the pod would look for it
		// there by itself. Off only when off for all and for the link.
		{ip + "conf/all/send_redirects", "0", false},
		{ip + "conf/" + bridge + "/send_redirects", "0", false},
		// Who sends UDP to a port where nobody listens is told so each time, not once a second: a pod that asks for names while its peer is away goes on to
		// the next server at once. Bit 3 (destination unreachable) is taken out of the kernel's default of 0x1818; all errors together have a limit still.
		{ip + "icmp_ratemask", "6160", false},
		// NodePorts on localhost; the proxy's rules keep neighbours out.
		{ip + "conf/all/route_localnet", "1", false},
		// Without it a pod sees the answer of a neighbour behind a Service come from the neighbour.
		{"/proc/sys/net/bridge/bridge-nf-call-iptables", "1", true},
	} {
		have, err := os.ReadFile(s.path)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			log.Warn("kernel module br_netfilter is not loaded: pods may not reach Services whose endpoints are on their own machine")
			continue
		}
		if err == nil && len(have) > 0 && string(have[:len(have)-1]) == s.value {
			continue
		}
		if err := os.WriteFile(s.path, []byte(s.value), 0); err != nil {
			return fmt.Errorf("set kernel parameter: %w", err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
