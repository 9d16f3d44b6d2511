package network

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

var serviceCIDR = netip.MustParsePrefix("10.43.0.0/16")

func attach(t testing.TB, h *host, m *Machine, uid types.UID, pod *host) netip.Addr {
	t.Helper()
	var addr netip.Addr
	h.must(t, func() (err error) {
		addr, err = m.Attach(t.Context(), uid, pod.path, netip.Addr{})
		return err
	})
	return addr
}

// serve answers TCP connections in h with 40 kB and its caller's address.
func serve(t testing.TB, h *host, port string) {
	t.Helper()
	var l net.Listener
	h.must(t, func() (err error) {
		l, err = net.Listen("tcp4", ":"+port)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				_, _ = io.WriteString(c, from+strings.Repeat(" ", 40_000))
			}()
		}
	}()
}

// call connects from h and returns the address under which it is seen.
func call(t testing.TB, h *host, to string) string {
	t.Helper()
	var seen string
	h.must(t, func() error {
		c, err := net.DialTimeout("tcp4", to, 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		seen = strings.TrimSpace(string(b))
		return err
	})
	return seen
}

func TestPodsOfTwoMachinesReachOneAnother(t *testing.T) {
	for name, routed := range map[string]bool{"on one link": false, "through a router": true} {
		t.Run(name, func(t *testing.T) {
			a, b := newHost(t), newHost(t)
			nodes := []*corev1.Node{
				nodeObject("a", "10.244.1.0/24", "192.168.1.1"), nodeObject("b", "10.244.2.0/24", "192.168.1.2"),
			}
			if !routed {
				cable(t, a, "192.168.1.1/24", b, "192.168.1.2/24", "up0")
			} else {
				router := newHost(t)
				nodes[1].Status.Addresses[0].Address = "192.168.2.2"
				cable(t, a, "192.168.1.1/24", router, "192.168.1.254/24", "up0")
				cable(t, b, "192.168.2.2/24", router, "192.168.2.254/24", "up1")
				router.must(t, func() error { return settings(nil, "all") })
				gateway(t, a, "192.168.1.254")
				gateway(t, b, "192.168.2.254")
			}
			ma, mb := New(Config{Node: "a", ServiceCIDR: serviceCIDR}), New(Config{Node: "b", ServiceCIDR: serviceCIDR})
			for range 2 { // the second time must change nothing
				a.must(t, func() error { return ma.sync(nodes) })
				b.must(t, func() error { return mb.sync(nodes) })
			}
			pod1, pod2, pod3 := newHost(t), newHost(t), newHost(t)
			addr1, addr2, addr3 := attach(t, a, ma, "1", pod1), attach(t, a, ma, "2", pod2), attach(t, b, mb, "3", pod3)
			serve(t, pod1, "80")
			serve(t, pod3, "80")
			for _, c := range []struct {
				from *host
				to   netip.Addr
				want netip.Addr
			}{
				{pod2, addr1, addr2}, {pod1, addr3, addr1}, {pod3, addr1, addr3}, {a, addr1, netip.MustParseAddr("10.244.1.1")},
			} {
				if got := call(t, c.from, c.to.String()+":80"); got != c.want.String() {
					t.Errorf("%s is seen as %s", c.want, got)
				}
			}
			call(t, b, addr1.String()+":80")

			want := 1500
			if routed {
				want = 1450
			}
			pod1.must(t, func() error {
				link, err := netlink.LinkByName("eth0")
				if err == nil && link.Attrs().MTU != want {
					t.Errorf("MTU is %d, want %d", link.Attrs().MTU, want)
				}
				return err
			})
			// b leaves: no trace of it may stay.
			a.must(t, func() error { return ma.sync(nodes[:1]) })
			a.must(t, func() error {
				routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
				if len(routes) != 1 || routes[0].Dst.String() != serviceCIDR.String() {
					t.Errorf("routes left: %v", routes)
				}
				if _, err := netlink.LinkByName(tunnelName); err == nil {
					t.Error("tunnel left")
				}
				return err
			})
		})
	}
}

func gateway(t *testing.T, h *host, via string) {
	h.must(t, func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)}) })
}

func TestAttachTwiceAndAfterARestart(t *testing.T) {
	h, pod := newHost(t), newHost(t)
	nodes := []*corev1.Node{nodeObject("a", "10.244.1.0/24", "192.168.1.1")}
	m := New(Config{Node: "a", ServiceCIDR: serviceCIDR})
	h.must(t, func() error { return m.sync(nodes) })
	first := attach(t, h, m, "1", pod)
	if again := attach(t, h, m, "1", pod); again != first {
		t.Errorf("second attach gave %s, first %s", again, first)
	}
	other := newHost(t)
	attach(t, h, m, "leftover", other)

	m = New(Config{Node: "a", ServiceCIDR: serviceCIDR})
	h.must(t, func() error { return m.Keep(t.Context(), map[types.UID]netip.Addr{"1": first}) })
	h.must(t, func() error { return m.sync(nodes) })
	if got := podLinks(t, h); len(got) != 1 || got[0] != linkName("1") {
		t.Errorf("links after restart: %v", got)
	}
	if again := attach(t, h, m, "1", pod); again != first {
		t.Errorf("attach after restart gave %s, before %s", again, first)
	}
	serve(t, pod, "80")
	call(t, h, first.String()+":80")

	// The pod's namespaces are made anew: the same address moves there.
	fresh := newHost(t)
	if again := attach(t, h, m, "1", fresh); again != first {
		t.Errorf("attach to a new namespace gave %s, before %s", again, first)
	}
	serve(t, fresh, "81")
	call(t, h, first.String()+":81")

	for range 2 {
		h.must(t, func() error { return m.Detach(t.Context(), "1") })
	}
	h.must(t, func() error { return Clean(t.Context(), "shoal0") })
	h.must(t, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if n := l.Attrs().Name; n == "shoal0" || isPodLink(n) {
				t.Errorf("link %s is left", n)
			}
		}
		return err
	})
}

func podLinks(t *testing.T, h *host) []string {
	var out []string
	h.must(t, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if isPodLink(l.Attrs().Name) {
				out = append(out, l.Attrs().Name)
			}
		}
		return err
	})
	return out
}

func TestAttachToNoNamespaceLeavesNothing(t *testing.T) {
	h := newHost(t)
	m := New(Config{Node: "a", ServiceCIDR: serviceCIDR})
	h.must(t, func() error { return m.sync([]*corev1.Node{nodeObject("a", "10.244.1.0/24", "192.168.1.1")}) })
	h.do(func() {
		if _, err := m.Attach(t.Context(), "1", "/nowhere", netip.Addr{}); err == nil {
			t.Error("attached to nothing")
		}
	})
	if got := podLinks(t, h); len(got) != 0 {
		t.Errorf("links left: %v", got)
	}
}

func BenchmarkAttach(b *testing.B) {
	h := newHost(b)
	m := New(Config{Node: "a", ServiceCIDR: serviceCIDR})
	h.must(b, func() error { return m.sync([]*corev1.Node{nodeObject("a", "10.244.1.0/24", "192.168.1.1")}) })
	pod := newHost(b)
	for b.Loop() {
		attach(b, h, m, "1", pod)
		b.StopTimer()
		h.must(b, func() error { return m.Detach(b.Context(), "1") })
		b.StartTimer()
	}
}
