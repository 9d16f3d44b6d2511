package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// cluster is several peers in one process, on a network that can be cut. Time is virtual: run everything in bubble.
type cluster struct {
	t   *testing.T
	dir string
	cfg func(*Config)

	mu     sync.Mutex
	peers  map[PeerID]*running
	cut    map[[2]PeerID]bool
	health map[PeerID]Health
	ill    signal
}

type running struct {
	*Peer
	trans *raft.InmemTransport
	stop  context.CancelFunc
	done  chan error
}

// bubble runs a test in virtual time, which also fails when a goroutine is left behind.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// newCluster starts n peers, p1 to pn, and waits until all are members and as many vote as should. cfg may be nil.
func newCluster(t *testing.T, n int, cfg func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), cfg: cfg, peers: map[PeerID]*running{}, cut: map[[2]PeerID]bool{}, health: map[PeerID]Health{}}
	t.Cleanup(func() {
		for _, p := range c.all() {
			c.stop(p.cfg.ID)
		}
		// Calls of Raft's that nobody will answer give up by themselves.
		rest(context.WithoutCancel(t.Context()), 10*time.Second)
	})
	for i := range n {
		id := PeerID(fmt.Sprintf("p%d", i+1))
		c.start(id, i == 0)
		if i > 0 {
			c.add(id)
		}
	}
	c.voters(votersFor(n, 5))
	c.until("all know who votes", func() bool {
		return !slices.ContainsFunc(c.all(), func(p *running) bool { return len(p.Status().Voters) != votersFor(n, 5) })
	})
	return c
}

func (c *cluster) add(id PeerID) {
	c.t.Helper()
	c.retry(func(ctx context.Context) error { return c.master().AddPeer(ctx, id) })
}

func (c *cluster) start(id PeerID, bootstrap bool) *running {
	c.t.Helper()
	_, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 100*time.Millisecond)
	cfg := Config{
		ID: id, Dir: filepath.Join(c.dir, string(id)), Transport: trans, Peers: caller{c, id}, Bootstrap: bootstrap,
		Health: c.healths, HealthChanged: c.ill.wait,
		Timing: Timing{Heartbeat: 100 * time.Millisecond, Call: 200 * time.Millisecond},
		Log:    slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("peer", string(id)),
	}
	if c.cfg != nil {
		c.cfg(&cfg)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	p := &running{Peer: New(cfg), trans: trans, stop: cancel, done: make(chan error, 1)}
	c.mu.Lock()
	c.peers[id] = p
	c.health[id] = Health{Alive: true, Zone: c.health[id].Zone}
	c.wireLocked()
	c.mu.Unlock()
	c.ill.fire()
	go func() { p.done <- p.Run(ctx) }()
	select {
	case <-p.Ready():
	case err := <-p.done:
		c.t.Fatalf("start %s: %v", id, err)
	}
	return p
}

// stop stops a peer gracefully, if it runs.
func (c *cluster) stop(id PeerID) {
	c.t.Helper()
	c.mu.Lock()
	p := c.peers[id]
	c.mu.Unlock()
	if p == nil {
		return
	}
	p.stop()
	if err := <-p.done; err != nil {
		c.t.Errorf("stop %s: %v", id, err)
	}
	c.mu.Lock()
	delete(c.peers, id)
	c.wireLocked()
	c.mu.Unlock()
}

// kill cuts a peer off and tells everybody, then stops it: so it cannot hand anything over.
func (c *cluster) kill(id PeerID) {
	c.t.Helper()
	c.isolate(id)
	c.setHealth(id, Health{})
	c.stop(id)
}

func (c *cluster) setHealth(id PeerID, h Health) {
	c.mu.Lock()
	c.health[id] = h
	c.mu.Unlock()
	c.ill.fire()
}

func (c *cluster) healths() map[PeerID]Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[PeerID]Health{}
	for id, h := range c.health {
		if p := c.peers[id]; p != nil {
			h.Disk, _ = p.Disk()
		}
		out[id] = h
	}
	return out
}

// isolate cuts all links of the given peers but those among them.
func (c *cluster) isolate(ids ...PeerID) {
	in := map[PeerID]bool{}
	for _, id := range ids {
		in[id] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.peers {
		for b := range c.peers {
			c.cut[[2]PeerID{a, b}] = in[a] != in[b]
		}
	}
	c.wireLocked()
}

// masters names those who believe that they are.
func (c *cluster) masters() (names []PeerID) {
	for _, p := range c.all() {
		if p.Status().Role == RoleMaster {
			names = append(names, p.cfg.ID)
		}
	}
	return names
}

func (c *cluster) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cut)
	c.wireLocked()
}

func (c *cluster) wireLocked() {
	for a, p := range c.peers {
		for b, q := range c.peers {
			if c.cut[[2]PeerID{a, b}] {
				p.trans.Disconnect(raft.ServerAddress(b))
			} else {
				p.trans.Connect(raft.ServerAddress(b), q.trans)
			}
		}
	}
}

// caller is the calls of one peer. What goes into a cut link is never answered.
type caller struct {
	c    *cluster
	from PeerID
}

func (n caller) Call(ctx context.Context, to PeerID, method string, body []byte) ([]byte, error) {
	n.c.mu.Lock()
	p, cut := n.c.peers[to], n.c.cut[[2]PeerID{n.from, to}]
	n.c.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if p == nil {
		return nil, errors.New("connection refused")
	}
	return p.Handle(ctx, n.from, method, body)
}

func (c *cluster) all() []*running {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*running
	for i := 1; len(out) < len(c.peers); i++ {
		if p := c.peers[PeerID(fmt.Sprintf("p%d", i))]; p != nil {
			out = append(out, p)
		}
	}
	return out
}

func (c *cluster) peer(id PeerID) *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[id]
}

// until waits until cond holds, which depends on what Changed of some peer announces.
func (c *cluster) until(what string, cond func() bool) {
	c.t.Helper()
	late := time.After(time.Minute)
	for {
		cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(late)}}
		for _, p := range c.all() {
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(p.Changed())})
		}
		if cond() {
			return
		}
		if i, _, _ := reflect.Select(cases); i == 0 {
			for _, p := range c.all() {
				c.t.Logf("%s: %+v", p.cfg.ID, p.Status())
			}
			c.t.Fatalf("never came true: %s", what)
		}
	}
}

// master waits for one, which a majority of those that can reach it agree on.
func (c *cluster) master() *running {
	c.t.Helper()
	var m *running
	c.until("there is a master", func() bool {
		m = nil // whoever was taken for it before may have heard of a later term, in which another leads
		for _, p := range c.all() {
			if s := p.Status(); s.Role == RoleMaster && (m == nil || s.Term > m.Term()) {
				m = p
			}
		}
		return m != nil && m.Status().Role == RoleMaster
	})
	return m
}

func (c *cluster) voters(n int) {
	c.t.Helper()
	c.until(fmt.Sprintf("%d peers vote", n), func() bool {
		for _, p := range c.all() {
			if s := p.Status(); s.Role == RoleMaster && len(s.Voters) == n {
				return true
			}
		}
		return false
	})
}

// retry does f until it succeeds, for at most a minute.
func (c *cluster) retry(f func(ctx context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
		rest(ctx, 10*time.Millisecond)
	}
}

func (c *cluster) put(key, value string) store.Rev {
	c.t.Helper()
	var rev store.Rev
	c.retry(func(ctx context.Context) error {
		res, err := c.master().Propose(ctx, putTxn(key, value))
		rev = res.Rev
		return err
	})
	return rev
}

func putTxn(key, value string) store.Txn {
	return store.Txn{Ops: []store.Op{{Key: store.Key(key), Value: []byte(value)}}}
}

// same waits until all peers hold what is newest, and fails unless they hold the same.
func (c *cluster) same() {
	c.t.Helper()
	rev := c.put("last", fmt.Sprint(time.Now().UnixNano()))
	hash := ""
	for _, p := range c.all() {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
		if err := p.Store().WaitRev(ctx, rev); err != nil {
			c.t.Fatalf("%s stays at %d of %d: %+v", p.cfg.ID, p.Store().Rev(), rev, p.Status())
		}
		cancel()
		switch h := p.Store().Hash(); hash {
		case "":
			hash = h
		case h:
		default:
			c.t.Fatalf("%s differs", p.cfg.ID)
		}
	}
}

func (c *cluster) get(p *running, key string) string {
	c.t.Helper()
	kv, _, err := p.Store().Get(store.Key(key), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(kv.Value)
}
