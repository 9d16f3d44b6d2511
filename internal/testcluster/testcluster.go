// Package testcluster is a whole cluster in one process: real consensus on real disks, registry, API, Master and clients
// over HTTP, on a network that a test cuts and heals; only the containers are pretended. It is for tests, which run in
// synctest bubbles: time is virtual, so that elections and graces cost nothing and a busy machine changes nothing.
//
// Its invariant: every test ends with all living peers healed and compared. They must hold the same, nobody may have
// changed an object of a cache, and no goroutine or connection may be left.
package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/consensus"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/client/clienttest"
)

// Options change what New makes; the zero value is New's.
type Options struct {
	// NoNodes leaves out the peers' Nodes, so that nothing but the test changes anything.
	NoNodes bool
	// Seed of the messages' delays.
	Seed int64
	// Latency is how long a message travels on average; 400 µs when zero.
	Latency time.Duration
	// Window is how many changes of a kind a registry remembers; small by default, so that tests get past it.
	Window int
	// Timing of consensus; the heartbeat is 150 ms by default.
	Timing consensus.Timing
	// HistoryMax is how many changes the store remembers.
	HistoryMax int
	// Clocks are by how much those of some peers are wrong; every peer's goes at the same pace.
	Clocks map[string]time.Duration
	// EvictionGrace is the Master's, and admission's.
	EvictionGrace time.Duration
	// Verbose lets Debug through.
	Verbose bool
}

// Cluster is some peers, peer-1 to peer-n. Methods that wait fail the test when they wait for too long, and must be called
// from the test's own goroutine.
type Cluster struct {
	t        *testing.T
	opt      Options
	dir      string
	net      *network
	detector client.MutationDetector
	log      *slog.Logger

	mu    sync.Mutex
	names []string // of all peers that ever were, in order
	peers map[string]*Peer
	views map[string]*view
	parts map[string]int  // which part of the network a machine is in
	left  map[string]bool // said goodbye
	news  chan struct{}   // closed and replaced by any change at any peer
	close []func()        // clients' connections
}

// patience is how long anything may take, in the cluster's time.
const patience = 2 * time.Minute

// Run gives f a cluster of n peers in a bubble of its own.
func Run(t *testing.T, n int, o Options, f func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, NewWith(t, n, o)) })
}

// New starts n peers and waits until all are members and as many vote as should. It must be called in a synctest bubble.
func New(t *testing.T, n int) *Cluster {
	t.Helper()
	return NewWith(t, n, Options{})
}

// NewWith is New with options.
func NewWith(t *testing.T, n int, o Options) *Cluster {
	t.Helper()
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	if o.Latency == 0 {
		o.Latency = 400 * time.Microsecond
	}
	if o.Window == 0 {
		o.Window = 64
	}
	if o.Timing.Heartbeat == 0 {
		o.Timing.Heartbeat = 150 * time.Millisecond
	}
	c := &Cluster{
		t: t, opt: o, dir: memoryDir(t), net: newNetwork(o.Seed, o.Latency),
		log:   clienttest.Logger(t, slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})),
		peers: map[string]*Peer{}, views: map[string]*view{}, parts: map[string]int{}, left: map[string]bool{},
		news: make(chan struct{}),
	}
	t.Cleanup(c.end)
	t.Cleanup(c.compare)
	for range n {
		c.Add()
	}
	c.Until("the right number of peers votes", func() bool {
		m, ok := c.master()
		return ok && len(c.Raft(m).Status().Voters) == votersOf(n)
	})
	return c
}

// memoryDir is a directory on a disk that costs nothing, where there is one: no test takes the power away, so nothing
// is learned from waiting for a real disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shoal-testcluster-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// votersOf is how many of n peers vote: an odd number, except of two.
func votersOf(n int) int {
	switch {
	case n <= 2:
		return n
	case n <= 4:
		return 3
	}
	return 5
}

// Add starts one more peer, makes it a member and returns its name.
func (c *Cluster) Add() string {
	c.t.Helper()
	c.mu.Lock()
	name := fmt.Sprint("peer-", len(c.names)+1)
	first := len(c.names) == 0
	c.names = append(c.names, name)
	c.views[name] = newView(name, c.opt.Clocks[name])
	c.mu.Unlock()
	c.start(name, first)
	c.Retry("make "+name+" a member", func(ctx context.Context) error {
		return c.Raft(c.Master()).AddPeer(ctx, consensus.PeerID(name))
	})
	return name
}

// Names returns the peers that run, in order.
func (c *Cluster) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.names), func(n string) bool { return c.peers[n] == nil })
}

// Peer returns a running peer.
func (c *Cluster) Peer(name string) *Peer {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[name]
	if p == nil {
		c.t.Fatalf("%s does not run", name)
	}
	return p
}

// start runs a peer over the directory it had before, if any.
func (c *Cluster) start(name string, first bool) {
	c.t.Helper()
	c.mu.Lock()
	delete(c.left, name)
	p := newPeer(c, name, filepath.Join(c.dir, name), first, c.views[name])
	c.peers[name] = p
	c.mu.Unlock()
	c.rewire()
	p.start()
	select {
	case <-p.Raft.Ready():
	case <-p.ended:
		c.t.Fatalf("start %s: %v", name, p.err)
	}
}

// Restart starts a peer that was killed or stopped, with the disk it had.
func (c *Cluster) Restart(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.mu.Lock()
		delete(c.parts, name)
		c.mu.Unlock()
		c.start(name, false)
	}
}

// Stop stops peers as a service manager does: they hand over what they do and say goodbye.
func (c *Cluster) Stop(names ...string) {
	c.t.Helper()
	for _, name := range names {
		p := c.Peer(name)
		c.mu.Lock()
		c.left[name] = true
		c.mu.Unlock()
		p.stop(false)
		c.gone(p)
	}
}

// Kill takes machines away: from one moment to the next nobody hears of them.
func (c *Cluster) Kill(names ...string) {
	c.t.Helper()
	c.cutOff(names)
	for _, name := range names {
		p := c.Peer(name)
		p.stop(true)
		c.gone(p)
	}
}

func (c *Cluster) gone(p *Peer) {
	c.t.Helper()
	if p.err != nil {
		c.t.Errorf("%s: %v", p.Name, p.err)
	}
	c.mu.Lock()
	delete(c.peers, p.Name)
	c.mu.Unlock()
	c.rewire()
}

// Partition cuts the network into groups, each a list of names with commas between; peers that are not named are one
// more group. Everybody learns at once who cannot be reached.
func (c *Cluster) Partition(groups ...string) {
	c.t.Helper()
	c.mu.Lock()
	clear(c.parts)
	for i, g := range groups {
		for name := range strings.SplitSeq(g, ",") {
			if !slices.Contains(c.names, name) {
				c.t.Fatalf("partition %q: no peer is called %q", groups, name)
			}
			c.parts[name] = i + 1
		}
	}
	c.mu.Unlock()
	c.log.Info("partition", "parts", strings.Join(groups, "/"))
	c.rewire()
}

// Isolate cuts every link of one peer.
func (c *Cluster) Isolate(name string) {
	c.t.Helper()
	c.Partition(name)
}

// cutOff cuts every link of some peers and leaves the other cuts as they are.
func (c *Cluster) cutOff(names []string) {
	c.mu.Lock()
	for i, name := range names {
		c.parts[name] = -1 - i - len(c.names)*(1+slices.Index(c.names, name))
	}
	c.mu.Unlock()
	c.rewire()
}

// Heal mends every link. Those who were killed stay dead.
func (c *Cluster) Heal() {
	c.mu.Lock()
	clear(c.parts)
	c.mu.Unlock()
	c.log.Info("heal")
	c.rewire()
}

// rewire brings the links, and what everybody believes of the others, to what the cluster is now.
func (c *Cluster) rewire() {
	c.mu.Lock()
	names, parts := slices.Clone(c.names), map[string]int{}
	for _, n := range names {
		parts[n] = c.parts[n]
	}
	beliefs := map[*view]map[string]api.Liveness{}
	for _, n := range names {
		all := map[string]api.Liveness{}
		for _, other := range names {
			switch {
			case other == n:
			case c.peers[other] != nil && parts[n] == parts[other]:
				all[other] = api.Alive
			case c.peers[other] == nil && c.left[other] && parts[n] == parts[other]:
				all[other] = api.Left
			default:
				all[other] = api.Gone
			}
		}
		beliefs[c.views[n]] = all
	}
	c.mu.Unlock()
	c.net.set(names, func(a, b string) bool { return parts[a] != parts[b] })
	for v, states := range beliefs {
		v.set(states)
	}
	c.fire()
}

// Believe makes a peer think something of another's machine until the network next changes.
func (c *Cluster) Believe(peer, of string, state api.Liveness) {
	c.mu.Lock()
	v := c.views[peer]
	c.mu.Unlock()
	v.set(map[string]api.Liveness{of: state})
}
