package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace, with its own /run for iptables' lock, and a thread that lives in it.
type host struct {
	path string
	work chan func()
}

func newHost(t testing.TB) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	h := &host{path: filepath.Join(t.TempDir(), "ns"), work: make(chan func())}
	if err := os.WriteFile(h.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespaces with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), h.path, "", unix.MS_BIND, "")
		}
		if err == nil {
			err = unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		}
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("run", "/run", "tmpfs", 0, "")
		}
		ready <- err
		for f := range h.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(h.work)
		if err := unix.Unmount(h.path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.must(t, func() error { return up("lo", "") })
	return h
}

func (h *host) do(f func()) {
	done := make(chan struct{})
	h.work <- func() { defer close(done); f() }
	<-done
}

func (h *host) must(t testing.TB, f func() error) {
	t.Helper()
	var err error
	h.do(func() { err = f() })
	if err != nil {
		t.Fatal(err)
	}
}

// cable joins two hosts with links of these names and addresses.
func cable(t testing.TB, a *host, nameA, addrA string, b *host, nameB, addrB string) {
	t.Helper()
	ns, err := netns.GetFromPath(b.path) // a's thread does not see this mount
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	a.must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(ns)})
	})
	a.must(t, func() error { return up(nameA, addrA) })
	b.must(t, func() error { return up(nameB, addrB) })
}

func up(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func route(t testing.TB, h *host, dst, via string) {
	t.Helper()
	h.must(t, func() error {
		_, n, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(via); ip != nil {
			return netlink.RouteAdd(&netlink.Route{Dst: n, Gw: ip})
		}
		link, err := netlink.LinkByName(via)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: n, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK})
	})
}

// newNode is a machine with a bridge, ready to forward.
func newNode(t testing.TB, gateway string) *host {
	t.Helper()
	h := newHost(t)
	h.must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "shoal0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		for path, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "2", "ipv4/conf/all/route_localnet": "1",
			"ipv4/conf/all/send_redirects": "0", "ipv4/conf/shoal0/send_redirects": "0",
			"bridge/bridge-nf-call-iptables": "1",
		} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		return up("shoal0", gateway+"/24")
	})
	route(t, h, "10.43.0.0/16", "shoal0")
	return h
}

// newPod is a pod of node.
func newPod(t testing.TB, node *host, gateway, addr string) *host {
	t.Helper()
	pod := newHost(t)
	name := "p" + strings.ReplaceAll(addr, ".", "")
	cable(t, node, name, "", pod, "eth0", addr+"/24")
	node.must(t, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("shoal0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return err
		}
		return netlink.LinkSetHairpin(link, true)
	})
	route(t, pod, "0.0.0.0/0", gateway)
	return pod
}

// serve answers on TCP and UDP with name and the caller's address as it is seen.
func serve(t testing.TB, h *host, addr, name string) {
	t.Helper()
	var l net.Listener
	var pc net.PacketConn
	h.must(t, func() (err error) {
		if l, err = net.Listen("tcp4", addr); err != nil {
			return err
		}
		pc, err = net.ListenPacket("udp4", addr)
		return err
	})
	t.Cleanup(func() {
		l.Close()
		pc.Close()
	})
	line := func(from net.Addr) string {
		host, _, _ := net.SplitHostPort(from.String())
		return name + " " + host + "\n"
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					if _, err := in.ReadString('\n'); err != nil {
						return
					}
					if _, err := io.WriteString(c, line(c.RemoteAddr())); err != nil {
						return
					}
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(line(from)), from)
		}
	}()
}

// connect opens a connection from h; an address may be given to come from.
func connect(t testing.TB, h *host, network, to string) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	var err error
	h.do(func() { c, err = net.DialTimeout(network, to, 3*time.Second) })
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// say sends one line and returns the answer.
func say(c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	s, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(s), err
}

// call returns who answered h and under which address it saw h, or the error.
func call(t testing.TB, h *host, network, to string) string {
	t.Helper()
	c, err := connect(t, h, network, to)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	s, err := say(c)
	if err != nil {
		return err.Error()
	}
	return s
}

// inside is a Programmer that works in a host's network namespace.
type inside struct {
	h *host
	k *Kernel
}

func (i inside) Restore(ctx context.Context, input []byte) (err error) {
	i.h.do(func() { err = i.k.Restore(ctx, input) })
	return err
}

func (i inside) Save(ctx context.Context, table string) (out []byte, err error) {
	i.h.do(func() { out, err = i.k.Save(ctx, table) })
	return out, err
}

func (i inside) Link(ctx context.Context, table, from, to string) (err error) {
	i.h.do(func() { err = i.k.Link(ctx, table, from, to) })
	return err
}

func (i inside) Unlink(ctx context.Context, table, from, to string) (err error) {
	i.h.do(func() { err = i.k.Unlink(ctx, table, from, to) })
	return err
}

func (i inside) Forget(ctx context.Context, flows []Flow) (err error) {
	i.h.do(func() { err = i.k.Forget(ctx, flows) })
	return err
}

// kernelProxy is a proxy that a test drives by hand.
type kernelProxy struct {
	*Proxy
	k kernel
}

func newKernelProxy(h *host, program string) *kernelProxy {
	p := newRigless(inside{h: h, k: &Kernel{Program: program}})
	return &kernelProxy{Proxy: p}
}

func (p *kernelProxy) apply(t testing.TB, f *Facts) {
	t.Helper()
	if err := p.program(t.Context(), &p.k, Render(f)); err != nil {
		t.Fatal(err)
	}
}
