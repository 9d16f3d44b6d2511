// Package network gives pods their addresses on this machine: a bridge, a veth pair and an address a pod, and routes to the
// other machines' pods. Services are the proxy's business.
package network

import (
	"context"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// Interface attaches pods. Implementations are safe for concurrent use and idempotent.
type Interface interface {
	// Ready blocks until this machine has its pod CIDR and bridge.
	Ready(ctx context.Context) error
	// Attach gives the pod whose network namespace is at netns an address (the recorded one when not invalid) and a
	// default route. Attaching an attached pod returns its address.
	Attach(ctx context.Context, uid types.UID, netns string, recorded netip.Addr) (netip.Addr, error)
	// Detach removes the pod's link and frees its address. Detaching what is not attached succeeds.
	Detach(ctx context.Context, uid types.UID) error
	// Keep tells, once after a restart and before the first Attach, which pods exist; every other link is removed.
	Keep(ctx context.Context, pods map[types.UID]netip.Addr) error
}
