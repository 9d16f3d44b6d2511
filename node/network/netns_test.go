package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// host is a network namespace with a thread that lives in it.
type host struct {
	path string // bind mount that others can open
	work chan func()
}

func newHost(t testing.TB) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	h := &host{path: filepath.Join(t.TempDir(), "ns"), work: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespaces with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = os.WriteFile(h.path, nil, 0o600)
		}
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), h.path, "", unix.MS_BIND, "")
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
	return h
}

// do runs f in h's network namespace.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.work <- func() { defer close(done); f() }
	<-done
}

// must runs f in h's network namespace and stops the test when it fails.
func (h *host) must(t testing.TB, f func() error) {
	t.Helper()
	var err error
	h.do(func() { err = f() })
	if err != nil {
		t.Fatal(err)
	}
}

// cable joins two hosts with a link called name on both sides.
func cable(t testing.TB, a *host, addrA string, b *host, addrB, name string) {
	t.Helper()
	a.must(t, func() error {
		ns, err := netns.GetFromPath(b.path)
		if err != nil {
			return err
		}
		defer ns.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(ns)})
	})
	for h, addr := range map[*host]string{a: addrA, b: addrB} {
		h.must(t, func() error { return up(name, addr) })
	}
}

func up(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if addr != "" {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(addr))}); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func nodeObject(name, pods, addr string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: pods},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}},
	}
}
