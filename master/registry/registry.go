// Package registry is the only way into the store for API objects. It turns objects into transactions and the store's
// watch into one feed a kind, and implements client.Interface for those in the same process; master/api serves the
// same calls over HTTP. It reads on every peer and writes where the log accepts a proposal, which is the Master.
//
// It knows nothing of HTTP, users or permissions. Its invariant: what a List returned at revision R, followed by the
// events of a Watch from R, is at every moment what a List would return then.
package registry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	mrand "math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

var _ client.Interface = (*Registry)(nil)

// Log is what the registry needs of consensus.
type Log interface {
	// Store is this peer's replica.
	Store() *store.Store
	// Ready is closed when the replica has what this peer's disk holds: before, it is empty.
	Ready() <-chan struct{}
	// Propose has a transaction agreed and applied. An error leaves open whether it will be, unless errors.go knows it.
	Propose(ctx context.Context, t store.Txn) (store.Result, error)
	// ReadIndex returns a revision that includes every write acknowledged before the call.
	ReadIndex(ctx context.Context) (store.Rev, error)
}

// Config is complete when passed to New.
type Config struct {
	Log Log
	// Kinds are those it starts with.
	Kinds *api.Table
	// ServiceCIDR is where Services' cluster IPs come from; PodCIDR is divided into one /NodePrefix a Node.
	ServiceCIDR netip.Prefix
	PodCIDR     netip.Prefix
	NodePrefix  int // 24 when zero
	// NodePortMin and NodePortMax bound the node ports, inclusive; zero means 30000 and 32767.
	NodePortMin, NodePortMax int32
	// Admit decides on every write of an object, in-process or not, before it is validated. Nil admits all.
	Admit Admit
	// Charge keeps namespaces to their quotas. Nil: they are not kept.
	Charge client.Charging
	// Transform changes values on their way to and from the store (encryption). Nil stores them as they are.
	Transform Transformer
	// Window is how many changes of a kind are kept decoded for watchers, and WindowBytes how many bytes of stored objects those
	// may be; older ones are read from the store. Zero means 1000, and 256 KiB.
	Window, WindowBytes int
	// EventsMax is how many Events are kept, the newest ones; zero means 10,000.
	EventsMax int
	Now       func() time.Time // time.Now when nil
	Logger    *slog.Logger
}

// Registry implements client.Interface over the store. It is safe for concurrent use.
type Registry struct {
	cfg     Config
	log     *slog.Logger
	live    *api.Live
	serving atomic.Pointer[serving] // only pump.go replaces it
	applied progress
	apply   applier
	events  *eventWriter
	defined map[string]defined // by the name of the definition; only pump.go touches it

	randMu sync.Mutex
	rand   *mrand.Rand

	cidrMu   sync.Mutex
	nextCIDR int // the part of the pod range that is tried first
}

// New returns a registry that answers once Run has been called.
func New(c Config) *Registry {
	if c.Kinds == nil {
		c.Kinds = api.Default()
	}
	if c.NodePrefix == 0 {
		c.NodePrefix = 24
	}
	if c.NodePortMin == 0 {
		c.NodePortMin, c.NodePortMax = 30000, 32767
	}
	if c.Window == 0 {
		c.Window = 1000
	}
	if c.EventsMax == 0 {
		c.EventsMax = 10_000
	}
	if c.WindowBytes == 0 {
		c.WindowBytes = 256 << 10
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Admit == nil {
		c.Admit = func(context.Context, *Admission) error { return nil }
	}
	if c.Transform == nil {
		c.Transform = plain{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		cfg:  c,
		log:  c.Logger.With("component", "registry"),
		live: api.NewLive(c.Kinds),
		rand: newRand(),
	}
	r.applied.init()
	r.events = &eventWriter{propose: c.Log.Propose, holds: r.holds, surplus: r.surplusEvents, wake: make(chan struct{}, 1)}
	r.serving.Store(newServing(c.Kinds, window{c.Window, c.WindowBytes}))
	return r
}

// Revision returns the newest revision that reads here include.
func (r *Registry) Revision() uint64 { return uint64(r.applied.get()) }

// WaitRevision blocks until reads here include revision rev, or ctx ends.
func (r *Registry) WaitRevision(ctx context.Context, rev uint64) error {
	return r.applied.wait(ctx, store.Rev(rev))
}

// newUID returns a random (version 4) UUID.
func newUID() types.UID {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	const hex = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hex[c>>4], hex[c&15])
	}
	return types.UID(out)
}

func newRand() *mrand.Rand {
	var seed [16]byte
	rand.Read(seed[:])
	return mrand.New(mrand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
}

// pick returns a random number below n.
func (r *Registry) pick(n int) int {
	r.randMu.Lock()
	defer r.randMu.Unlock()
	return r.rand.IntN(n)
}

// parseRev reads a resourceVersion. The empty string is zero.
func parseRev(s string) (store.Rev, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, badRequest("resourceVersion: Invalid value: %q: %v", s, err)
	}
	return store.Rev(n), nil
}
