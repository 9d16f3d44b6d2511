package network

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Config is what New needs. Node, Client and ServiceCIDR are required.
type Config struct {
	Node        string
	Client      client.Interface
	ServiceCIDR netip.Prefix
	Bridge      string // empty: shoal0
	MTU         int    // of pods; zero: that of the link to other machines, less what a tunnel needs
	Log         *slog.Logger
}

// Machine is the Interface of the network namespace that the process is in.
type Machine struct {
	c     Config
	nodes *client.Cache[*corev1.Node]
	wake  chan struct{} // cap 1: Nodes or links changed
	ready chan struct{}

	mu      sync.Mutex
	pool    *pool
	gateway netip.Addr
	bridge  int // link index
	mtu     int // of pods to come
}

var _ Interface = (*Machine)(nil)

// New returns a Machine that does nothing until Run.
func New(c Config) *Machine {
	if c.Bridge == "" {
		c.Bridge = "shoal0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &Machine{c: c, wake: make(chan struct{}, 1), ready: make(chan struct{}), pool: newPool()}
	m.nodes = client.NewCache[*corev1.Node](client.CacheConfig{Client: c.Client, Kind: api.Nodes, Log: c.Log})
	m.nodes.OnChange(func(old, now *corev1.Node) {
		if old != nil && now != nil {
			was, hadCIDR := machineOf(old)
			is, hasCIDR := machineOf(now)
			if was == is && hadCIDR == hasCIDR {
				return // a status report, not a move
			}
		}
		m.poke()
	})
	return m
}

// Gateway blocks until the bridge has its address and returns it.
func (m *Machine) Gateway(ctx context.Context) (netip.Addr, error) {
	if err := m.Ready(ctx); err != nil {
		return netip.Addr{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gateway, nil
}

// Ready is Interface's.
func (m *Machine) Ready(ctx context.Context) error {
	select {
	case <-m.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the pod network: %w", context.Cause(ctx))
	}
}

// Run keeps bridge and routes as the Nodes say until ctx ends, and leaves them in place. Failures are logged and tried
// again.
func (m *Machine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.nodes.Run(ctx) })
	g.Go(func() error { return m.follow(ctx) })
	g.Go(func() error {
		if err := client.WaitSynced(ctx, m.nodes); err != nil {
			return err
		}
		return m.loop(ctx)
	})
	return g.Wait()
}

func (m *Machine) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Machine) loop(ctx context.Context) error {
	retry := client.NewBackoff(50*time.Millisecond, 10*time.Second)
	for {
		if err := m.sync(m.nodes.List("", nil)); err != nil {
			m.c.Log.Warn("pod network not set up, will retry", "err", err)
			if err := retry.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		retry.Reset()
		select {
		case <-m.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow wakes the loop when links or routes change: a link that went down took its routes with it.
func (m *Machine) follow(ctx context.Context) error {
	retry := client.NewBackoff(50*time.Millisecond, 10*time.Second)
	for ctx.Err() == nil {
		err := m.subscribe(ctx)
		if ctx.Err() != nil {
			break
		}
		// The kernel drops messages when they come too fast: begin again, and look at everything.
		m.c.Log.Debug("link messages lost", "err", err)
		m.poke()
		_ = retry.Wait(ctx)
	}
	return ctx.Err()
}

func (m *Machine) subscribe(ctx context.Context) error {
	done := make(chan struct{})
	links, routes := make(chan netlink.LinkUpdate), make(chan netlink.RouteUpdate)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return err
	}
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		close(routes)
		m.drain(ctx, done, links, routes)
		return err
	}
	m.drain(ctx, done, links, routes)
	return nil
}

// drain reads both channels until ctx ends or one is closed, then ends the subscriptions and waits for them.
func (m *Machine) drain(ctx context.Context, done chan struct{}, links chan netlink.LinkUpdate, routes chan netlink.RouteUpdate) {
	end, ended := ctx.Done(), false
	for links != nil || routes != nil {
		stop := false
		select {
		case u, ok := <-links:
			if !ok {
				links, stop = nil, true
			} else if !isPodLink(u.Attrs().Name) {
				m.poke()
			}
		case u, ok := <-routes:
			if !ok {
				routes, stop = nil, true
			} else if u.Protocol != routeProtocol || u.Type == unix.RTM_DELROUTE {
				m.poke()
			}
		case <-end:
			end, stop = nil, true
		}
		if stop && !ended {
			ended = true
			close(done)
		}
	}
}

// sync makes bridge, settings and routes what the Nodes ask for. It does nothing while this machine's Node has no pod
// CIDR.
func (m *Machine) sync(nodes []*corev1.Node) error {
	own, known, others := split(nodes, m.c.Node)
	if !known {
		return nil
	}
	gateway := gatewayOf(own.pods)
	bridge, err := m.ensureBridge(own.pods, gateway)
	if err != nil {
		return err
	}
	if err := settings(m.c.Log, m.c.Bridge); err != nil {
		return err
	}
	mtu, err := m.ensureRoutes(own, others, bridge)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.pool.prefix, m.gateway, m.bridge, m.mtu = own.pods, gateway, bridge.Attrs().Index, mtu
	m.mu.Unlock()
	select {
	case <-m.ready:
	default:
		close(m.ready)
		m.c.Log.Info("pod network is up", "gateway", gateway, "mtu", mtu)
	}
	return nil
}
