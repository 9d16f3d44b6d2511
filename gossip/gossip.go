// Package gossip knows which machines of the cluster are there: their names, addresses, small metadata, and whether they
// live. It wraps memberlist and adds one distinction that memberlist does not make: a peer that does not answer against a
// machine that does not. It knows nothing of Raft or pods and decides nothing about them. internal/peer runs one and hands
// it to the roles as small interfaces.
//
// Its invariant: a member counts as Gone only on the word of living peers that tried its machine, and whoever answers
// again is Alive at once.
package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Config is complete when passed to New. Name is required; the zero value of the rest means what the comment says.
type Config struct {
	Name          string
	BindAddr      string // "0.0.0.0"
	AdvertiseAddr string // an IP address at which the others reach us, required
	Port          int    // 7946
	// Label is the cluster's id and epoch: traffic with another label is dropped.
	Label string
	// Keys are 32 bytes each; the first encrypts, all decrypt. None: no encryption, for tests only.
	Keys [][]byte
	// Meta is what this peer says of itself from the start: see UpdateMeta.
	Meta map[string]string
	// Seeds says whom to begin with.
	Seeds   Seeds
	Timings Timings
	Log     *slog.Logger // discarded
	// Transport replaces sockets, for tests.
	Transport memberlist.NodeAwareTransport
	// Answers tries whether the machine at an address lives: by TCP.
	Answers func(ctx context.Context, addr string) (Answer, error)
}

// Seeds are the addresses that a peer has from elsewhere.
type Seeds struct {
	// Join returns names or addresses, with or without a port, of peers to join. It is asked, and names are resolved, at
	// every try. Nil means nobody. It must not block for long.
	Join func() []string
	// Known are the members of before, by name, with their last addresses (host:port). They are tried too; those that do
	// not turn up are judged as if they had fallen silent.
	Known map[string]string
	// Remember is called with the addresses of all other members after they changed, one call at a time, so that Known can
	// be filled at the next start. It may block. Nil means nobody keeps them.
	Remember func(map[string]string)
}

// Gossip is this peer's part in the protocol. All methods are safe for concurrent use and, but for Run and Leave, never
// block.
type Gossip struct {
	cfg     Config
	log     *slog.Logger
	keyring *memberlist.Keyring
	queue   *memberlist.TransmitLimitedQueue // votes on their way to everyone

	wake     chan struct{} // cap 1: something for tend to do
	announce chan struct{} // cap 1: the metadata changed
	moved    chan struct{} // cap 1: addresses to remember changed
	leave    chan chan error
	done     chan struct{} // closed when Run ends

	mu      sync.Mutex
	members map[string]*member // by name; this peer too once Run has begun
	ballots ballots
	outbox  []vote   // own votes not sent yet
	doubts  []string // members that others should look at, not told yet
	seq     uint64   // of the newest own vote
	meta    []byte
	told    []byte    // metadata that the others were told
	toldAt  time.Time // for the first time
	changed chan struct{}
	joinErr error
	rival   string // address of the last machine met that has our name
	warned  map[string]bool
}

// New returns a Gossip that has done nothing yet. It fails if the configuration cannot work.
func New(c Config) (*Gossip, error) {
	if c.Name == "" {
		return nil, errors.New("gossip: a name is required")
	}
	c.BindAddr, c.Port = cmp.Or(c.BindAddr, "0.0.0.0"), cmp.Or(c.Port, 7946)
	c.Timings = c.Timings.withDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Answers == nil {
		c.Answers = dialHost
	}
	if c.Seeds.Join == nil {
		c.Seeds.Join = func() []string { return nil }
	}
	meta, err := encodeMeta(c.Meta)
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg: c, log: c.Log.With("component", "gossip"),
		wake: make(chan struct{}, 1), announce: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		leave: make(chan chan error), done: make(chan struct{}), changed: make(chan struct{}),
		members: map[string]*member{}, ballots: ballots{}, meta: meta, warned: map[string]bool{},
	}
	g.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: g.count}
	if len(c.Keys) > 0 {
		if g.keyring, err = memberlist.NewKeyring(c.Keys, c.Keys[0]); err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
	}
	return g, nil
}

// Run takes part until ctx ends: then the others see this peer fall silent, unless it said goodbye by Leave before. It
// fails if the port is taken or another living machine has this peer's name (DuplicateNameError). Call it once.
func (g *Gossip) Run(ctx context.Context) error {
	defer close(g.done)
	g.recall(time.Now())
	ml, err := g.start(ctx)
	if err != nil {
		return fmt.Errorf("start gossip on %s:%d: %w", g.cfg.BindAddr, g.cfg.Port, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.tend(ctx, ml) })
	group.Go(func() error { return g.join(ctx, ml) })
	group.Go(func() error { return g.announceMeta(ctx, ml) })
	group.Go(func() error { return g.remember(ctx) })
	group.Go(func() error { return g.awaitLeave(ctx, ml) })
	err = group.Wait()
	if serr := ml.Shutdown(); serr != nil {
		return errors.Join(err, fmt.Errorf("stop gossip: %w", serr))
	}
	return err
}

func (g *Gossip) start(ctx context.Context) (*memberlist.Memberlist, error) {
	c := g.memberlistConfig()
	if c.Transport = g.cfg.Transport; c.Transport != nil {
		return memberlist.Create(c)
	}
	s, err := listen(ctx, g.cfg.BindAddr, g.cfg.Port, g.log)
	if err != nil {
		return nil, err
	}
	c.Transport = s
	ml, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(err, s.Shutdown())
	}
	return ml, nil
}

// memberlistConfig begins with memberlist's figures for a local network; every other figure is explained in timings.go.
func (g *Gossip) memberlistConfig() *memberlist.Config {
	t := g.cfg.Timings
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = g.cfg.Name, g.cfg.Label
	c.BindAddr, c.BindPort = g.cfg.BindAddr, g.cfg.Port
	c.AdvertiseAddr, c.AdvertisePort = g.cfg.AdvertiseAddr, g.cfg.Port
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = t.ProbeInterval, t.ProbeTimeout, t.Suspicion
	c.GossipInterval, c.PushPullInterval, c.TCPTimeout = t.GossipInterval, t.PushPull, t.Stream
	// Identity is a name, an address is metadata: a member that fell silent may come back from anywhere.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.Keyring = g.keyring
	// Most messages are a probe or its answer, which no compression makes smaller, and each would cost a fresh table.
	c.EnableCompression = false
	d := &delegate{g}
	c.Delegate, c.Events, c.Conflict, c.Merge, c.Ping = d, d, d, d, d
	c.DisableTcpPingsForNode = d.probeMissed
	c.Logger = quiet(g.log)
	return c
}

// recall enters the members of before.
func (g *Gossip) recall(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seq = uint64(now.UnixNano()) // above every vote of our life before
	for name, addr := range g.cfg.Seeds.Known {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || name == g.cfg.Name {
			continue
		}
		n, err := strconv.Atoi(port)
		if _, aerr := netip.ParseAddr(host); err != nil || aerr != nil {
			continue
		}
		g.members[name] = &member{
			Member: Member{Name: name, Addr: host, Port: n, State: Unknown, Since: now},
			next:   now.Add(g.cfg.Timings.Boot),
		}
	}
}

// count is how many members messages must reach.
func (g *Gossip) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(1, len(g.members))
}

// Changed returns a channel that is closed at the next change of any member, or of JoinError. Get it before reading.
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Members returns everyone ever heard of and not forgotten, this peer included, by name.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Member, 0, len(g.members))
	for _, name := range slices.Sorted(maps.Keys(g.members)) {
		list = append(list, g.members[name].Member)
	}
	return list
}

// Member returns one member.
func (g *Gossip) Member(name string) (Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[name]; m != nil {
		return m.Member, true
	}
	return Member{}, false
}

// State returns Unknown for a name that was never heard of.
func (g *Gossip) State(name string) State {
	m, ok := g.Member(name)
	if !ok {
		return Unknown
	}
	return m.State
}

// Isolated reports that there are other members and this peer sees none of them alive: then it is more likely this
// machine that was cut off.
func (g *Gossip) Isolated() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members) > 1 && g.livingLocked("") <= 1
}

// JoinError is why the last try to join failed; nil once it worked or nothing was tried. It may be an ErrWrongKey.
func (g *Gossip) JoinError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joinErr
}

// Forget drops a member that was taken out of the cluster. It comes back if it answers again.
func (g *Gossip) Forget(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[name]; m == nil || m.up {
		return
	}
	delete(g.members, name)
	delete(g.ballots, name)
	g.judgeLocked(time.Now())
	g.notifyLocked()
	signal(g.moved)
}

// notifyLocked wakes whoever waits for Changed.
func (g *Gossip) notifyLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// signal wakes the owner of a channel of capacity one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
