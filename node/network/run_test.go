package network

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
)

// nodeList is an API that has a fixed list of Nodes and one stream of changes.
type nodeList struct {
	client.Interface
	nodes  []api.Object
	events chan client.Event
}

func (l *nodeList) List(context.Context, *api.Kind, client.ListOptions) (*client.List, error) {
	return &client.List{Items: l.nodes, ResourceVersion: "1"}, nil
}

func (l *nodeList) Watch(context.Context, *api.Kind, client.ListOptions) (client.Watch, error) {
	return l, nil
}

func (l *nodeList) Next(ctx context.Context) ([]client.Event, error) {
	select {
	case e, ok := <-l.events:
		if !ok {
			return nil, io.EOF
		}
		return []client.Event{e}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *nodeList) Close() {}

const insideRun = "SHOAL_TEST_INSIDE_NETNS"

// TestRunFollowsNodesAndLinks runs itself again in a process with its own network namespace, as a peer has one.
func TestRunFollowsNodesAndLinks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv(insideRun) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunFollowsNodesAndLinks$", "-test.timeout=30s")
		cmd.Env = append(os.Environ(), insideRun+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far0"}); err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]string{"up0": "192.168.1.1/24", "far0": ""} {
		if err := up(name, addr); err != nil {
			t.Fatal(err)
		}
	}
	routes := make(chan netlink.RouteUpdate, 100)
	if err := netlink.RouteSubscribe(routes, t.Context().Done()); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, kind uint16, dst string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case u := <-routes:
				if u.Type == kind && u.Protocol == routeProtocol && u.Dst.String() == dst {
					return
				}
			case <-deadline:
				t.Fatalf("%s: no change of the route to %s", what, dst)
			}
		}
	}
	b := nodeObject("b", "10.244.2.0/24", "192.168.1.2")
	cluster := &nodeList{
		nodes:  []api.Object{nodeObject("a", "10.244.1.0/24", "192.168.1.1"), b},
		events: make(chan client.Event),
	}
	m := New(Config{Node: "a", Client: cluster, ServiceCIDR: serviceCIDR})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	if addr, err := m.Gateway(ctx); err != nil || addr.String() != "10.244.1.1" {
		t.Fatalf("gateway %s: %v", addr, err)
	}
	expect("at start", unix.RTM_NEWROUTE, "10.244.2.0/24")

	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	expect("after the link came back", unix.RTM_NEWROUTE, "10.244.2.0/24")

	cluster.events <- client.Event{Type: watch.Added, Object: versioned(nodeObject("c", "10.244.3.0/24", "192.168.1.3"), "2")}
	expect("a new Node", unix.RTM_NEWROUTE, "10.244.3.0/24")
	cluster.events <- client.Event{Type: watch.Modified, Object: versioned(nodeObject("c", "10.244.3.0/24", "192.168.1.33"), "3")}
	expect("a Node that moved", unix.RTM_NEWROUTE, "10.244.3.0/24")
	cluster.events <- client.Event{Type: watch.Deleted, Object: versioned(b, "4")}
	expect("a Node that left", unix.RTM_DELROUTE, "10.244.2.0/24")
	cancel()
	wg.Wait()
}

func versioned(n *corev1.Node, rev string) *corev1.Node {
	n = n.DeepCopy()
	n.ResourceVersion = rev
	return n
}
