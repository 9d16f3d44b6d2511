package proxy

import (
	"context"
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/client"
	"shoal/proxy/source"
)

// serving is what the rules were made from that the kernel holds.
type serving struct {
	slices map[client.Key][]*discoveryv1.EndpointSlice
	// policies is the last turn after which those that were known when it began are in force.
	policies int
	changed  chan struct{} // closed when other rules are there
}

// Withdrawn blocks until new connections to Services are no longer sent to an address of a ready endpoint, as far as this machine is concerned, or ctx
// ends. was tells whether they were when it was called: if not, it returns at once. An endpoint that ends and still gets traffic because no other is
// ready is withdrawn as far as it can be.
func (p *Proxy) Withdrawn(ctx context.Context, ip netip.Addr) (was bool, err error) {
	for {
		p.mu.Lock()
		now := p.serving
		p.mu.Unlock()
		if !ready(now.slices, ip) {
			return was, nil
		}
		was = true
		select {
		case <-now.changed:
		case <-ctx.Done():
			return was, context.Cause(ctx)
		}
	}
}

// ready reports whether an address is that of a ready endpoint of any Service.
func ready(all map[client.Key][]*discoveryv1.EndpointSlice, ip netip.Addr) bool {
	for _, slices := range all {
		for _, sl := range slices {
			if source.HasReady(sl, ip) {
				return true
			}
		}
	}
	return false
}

// serve notes what the rules were made from, in a turn, that the kernel holds now.
func (p *Proxy) serve(f *Facts, turn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.serving.changed)
	if !f.PoliciesKnown {
		turn = p.serving.policies
	}
	p.serving = serving{slices: f.Slices, policies: turn, changed: make(chan struct{})}
}
