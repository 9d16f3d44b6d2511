// Package proxy makes Services work on one machine: it renders packet rules from Services, EndpointSlices and the
// liveness of machines, and keeps the kernel's rules equal to its render. It carries no packets itself: when it is not
// running, the last rules go on working. It does not answer DNS (package dns) and knows no pods (package node).
// internal/peer runs it on every machine. Its invariant: the kernel holds, per table, one render or the next, never a
// mixture that would send a packet astray.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/proxy/policy"
	"shoal/proxy/source"
)

// Config is what New needs. Node, Source, Programmer and the two ranges are required.
type Config struct {
	Node        string
	Source      *source.Source
	Programmer  Programmer
	Policies    *policy.Source  // nil: there are no NetworkPolicies
	Liveness    source.Liveness // nil: every machine is taken to be alive
	PodCIDR     netip.Prefix    // of the whole cluster
	ServiceCIDR netip.Prefix
	OtherDNS    netip.Addr // as in Facts; there need be none
	Log         *slog.Logger
	// Dial tries an endpoint of a machine that has fallen silent. Nil means a plain TCP connection.
	Dial func(ctx context.Context, addr netip.AddrPort) error
	// AuditEvery is how often, at most, the kernel is compared with the render. Zero means a minute; long reads of the
	// kernel space it out further.
	AuditEvery time.Duration
}

// Proxy keeps one machine's rules. All methods are safe for concurrent use.
type Proxy struct {
	c     Config
	wake  chan struct{} // cap 1: something changed
	ready chan struct{}
	check *checker
	// printed remembers chains that this machine's iptables-save words differently from us. Only Run's goroutine uses it.
	printed map[Chain]wording

	mu      sync.Mutex
	applied Applied
	serving serving
	begun   int // turns

	hostPorts      []HostPort
	hostPortsKnown bool
}

type wording struct{ ours, theirs string }

// Applied describes the last successful apply.
type Applied struct {
	Count    int // applies so far
	Services int // ports of Services
	Chains   int
	Bytes    int // sent
	Took     time.Duration
}

const (
	auditEvery   = time.Minute
	auditShare   = 600 // an audit that takes t is not repeated within auditShare·t
	applyTimeout = time.Minute
)

// New returns a Proxy that does nothing until Run. It must be called before c.Source runs.
func New(c Config) *Proxy {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.AuditEvery == 0 {
		c.AuditEvery = auditEvery
	}
	if c.Dial == nil {
		c.Dial = dial
	}
	p := &Proxy{c: c, wake: make(chan struct{}, 1), ready: make(chan struct{}), printed: map[Chain]wording{}, serving: serving{changed: make(chan struct{})}}
	p.check = newChecker(c.Dial, p.poke)
	c.Source.OnChange(p.poke)
	if c.Policies != nil {
		c.Policies.OnChange(p.poke)
	}
	return p
}

// Ready is closed once the rules have been applied for the first time.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Applied returns what the last apply did.
func (p *Proxy) Applied() Applied {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// Down reports whether e is presumed unreachable: its machine is gone, or has fallen silent and e does not accept
// connections.
func (p *Proxy) Down(e *source.Endpoint) bool {
	if p.c.Liveness == nil || e.Node == "" || e.Node == p.c.Node {
		return false
	}
	switch p.c.Liveness.Liveness(e.Node) {
	case api.Gone:
		return true
	case api.Silent:
		return p.check.failing(e.Addr)
	}
	return false
}

// Run keeps the rules until ctx ends and leaves them in place. Failures of the kernel's tools are logged and tried
// again. The Source must be running.
func (p *Proxy) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.check.run(ctx) })
	g.Go(func() error {
		if err := p.c.Source.WaitSynced(ctx); err != nil {
			return err
		}
		return p.loop(ctx)
	})
	return g.Wait()
}

func (p *Proxy) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// loop applies once for all changes that came while the previous apply ran.
func (p *Proxy) loop(ctx context.Context) error {
	retry := client.NewBackoff(100*time.Millisecond, 30*time.Second)
	k := &kernel{} // unknown: the first turn reads what an earlier process left
	audit := time.NewTimer(p.c.AuditEvery)
	defer audit.Stop()
	for {
		var changed <-chan struct{}
		if p.c.Liveness != nil {
			changed = p.c.Liveness.Changed()
		}
		reading := !k.known
		start := time.Now()
		if err := p.turn(ctx, k); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.c.Log.Warn("rules not applied, will retry", "err", err)
			k.known = false
			if err := retry.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		retry.Reset()
		if reading {
			audit.Reset(max(p.c.AuditEvery, auditShare*time.Since(start)))
		}
		select {
		case <-p.wake:
		case <-changed:
		case <-audit.C:
			k.known = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kernel is what the kernel is believed to hold.
type kernel struct {
	known     bool // chains is true, as far as we know
	chains    map[Chain]string
	services  []port // what chains was made from; empty at first
	hostPorts []HostPort
}

// turn renders once and brings the kernel to it.
func (p *Proxy) turn(ctx context.Context, k *kernel) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	p.mu.Lock()
	p.begun++
	n := p.begun
	p.mu.Unlock()
	f, silent := p.facts()
	want := Render(f)
	want.keepHostPorts, want.keepPolicies = !f.HostPortsKnown, !f.PoliciesKnown
	p.watchSilent(f, silent)
	if err := p.program(ctx, k, want); err != nil {
		return err
	}
	p.serve(f, n)
	return nil
}

// program brings the kernel to want. After an error nothing is known of the kernel.
func (p *Proxy) program(ctx context.Context, k *kernel, want *Rules) error {
	start := time.Now()
	var missing []jump
	audited := !k.known
	if audited {
		var err error
		if k.chains, missing, err = p.read(ctx, want); err != nil {
			return err
		}
	}
	if want.keepHostPorts {
		want.chains[hostPortsChain] = k.chains[hostPortsChain]
	}
	if want.keepPolicies {
		keepPolicies(want.chains, k.chains)
	}
	inputs := diff(k.chains, want.chains)
	sent := 0
	for _, input := range inputs {
		if err := p.c.Programmer.Restore(ctx, input); err != nil {
			return fmt.Errorf("restore rules: %w", err)
		}
		sent += len(input)
	}
	for _, j := range missing {
		if err := p.c.Programmer.Link(ctx, j.table, j.from, j.to); err != nil {
			return err
		}
	}
	flows := append(stale(k.services, want.services), staleHostPorts(k.hostPorts, want.hostPorts)...)
	first := p.Applied().Count == 0
	if audited && !first && (len(inputs) > 0 || len(missing) > 0) {
		p.c.Log.Warn("rules were not as rendered, repaired", "bytes", sent, "jumps", len(missing))
		if err := p.learn(ctx, want); err != nil {
			return err
		}
	}
	*k = kernel{known: true, chains: want.chains, services: want.services, hostPorts: want.hostPorts}
	if err := p.c.Programmer.Forget(ctx, flows); err != nil {
		// The rules are right; what is left expires by itself.
		p.c.Log.Warn("connections to withdrawn endpoints not forgotten", "err", err)
	}
	p.done(want, sent, time.Since(start))
	return nil
}

func (p *Proxy) done(want *Rules, sent int, took time.Duration) {
	p.mu.Lock()
	a := Applied{
		Count: p.applied.Count + 1, Services: len(want.services), Chains: len(want.chains), Bytes: sent, Took: took,
	}
	p.applied = a
	p.mu.Unlock()
	if a.Count == 1 {
		close(p.ready)
	}
	p.c.Log.Debug("rules applied", "services", a.Services, "chains", a.Chains, "bytes", sent, "took", took)
}

// facts collects what is true now. silent reports whether a machine was taken to be silent in them.
func (p *Proxy) facts() (f *Facts, silent func(node string) bool) {
	f = &Facts{
		Node: p.c.Node, PodCIDR: p.c.PodCIDR, ServiceCIDR: p.c.ServiceCIDR, OtherDNS: p.c.OtherDNS,
		Services: p.c.Source.Services(), Slices: p.c.Source.AllSlices(),
	}
	f.HostPorts, f.HostPortsKnown = p.currentHostPorts()
	f.PoliciesKnown = true
	if p.c.Policies != nil {
		var policies *policy.Facts
		if policies, f.PoliciesKnown = p.c.Policies.Facts(); f.PoliciesKnown {
			f.Isolations = policy.Decide(policies)
		}
	}
	if p.c.Liveness == nil {
		return f, func(string) bool { return false }
	}
	// One answer a machine and render, or two Services would see two worlds.
	states := map[string]api.Liveness{}
	failing := p.check.failures()
	f.Down = func(e *source.Endpoint) bool {
		if e.Node == "" || e.Node == f.Node {
			return false
		}
		s, ok := states[e.Node]
		if !ok {
			s = p.c.Liveness.Liveness(e.Node)
			states[e.Node] = s
		}
		return s == api.Gone || s == api.Silent && failing[e.Addr]
	}
	return f, func(node string) bool { return node != "" && node != f.Node && states[node] == api.Silent }
}

// watchSilent tells the checker which endpoints are on silent machines.
func (p *Proxy) watchSilent(f *Facts, silent func(node string) bool) {
	targets := map[netip.AddrPort]bool{}
	for _, all := range f.Slices {
		for _, sl := range all {
			if !slices.ContainsFunc(sl.Endpoints, func(e discoveryv1.Endpoint) bool {
				return e.NodeName != nil && silent(*e.NodeName)
			}) {
				continue
			}
			source.EachTCP(sl, func(node string, a netip.AddrPort) {
				if silent(node) {
					targets[a] = true
				}
			})
		}
	}
	p.check.watch(targets)
}

func dial(ctx context.Context, addr netip.AddrPort) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	return c.Close()
}
