package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus"
	"shoal/internal/client"
	"shoal/master"
	"shoal/master/admission"
	masterapi "shoal/master/api"
	"shoal/master/registry"
)

// Ranges that Services and pods get their addresses from.
var (
	ServiceCIDR = netip.MustParsePrefix("10.43.0.0/16")
	PodCIDR     = netip.MustParsePrefix("10.244.0.0/15")
)

const evictionGrace = 3 * time.Second

// Peer is one process of the cluster, from its start to its end.
type Peer struct {
	Name     string
	Raft     *consensus.Peer
	Registry *registry.Registry

	c       *Cluster
	view    *view
	trans   *http.Transport // to other peers
	hangUp  func()          // ends the connections of trans, even one that is still being made
	server  *http.Server
	http    *listener
	master  *master.Master
	node    *kubelet // nil without Nodes
	leading atomic.Uint64

	roles, core context.CancelFunc
	ended       chan struct{}
	err         error // valid when ended is closed
}

// newPeer wires a peer like package internal/peer does.
func newPeer(c *Cluster, name, dir string, first bool, v *view) *Peer {
	log := c.log.With("peer", name)
	grace := c.opt.EvictionGrace
	if grace == 0 {
		grace = evictionGrace
	}
	p := &Peer{Name: name, c: c, view: v, ended: make(chan struct{})}
	var lines context.Context
	lines, p.hangUp = context.WithCancel(c.base())
	p.trans = newTransport(lines, c.net, name)
	raftPort := c.net.listen(port{name, serviceRaft})
	p.http = c.net.listen(port{name, serviceHTTP})
	p.Raft = consensus.New(consensus.Config{
		ID: consensus.PeerID(name), Dir: dir, Bootstrap: first, Stream: stream{raftPort}, Peers: p,
		Health: v.health, HealthChanged: v.Changed, Lead: p.lead, Timing: c.opt.Timing, HistoryMax: c.opt.HistoryMax, Log: log,
	})
	var chain admission.Chain
	p.Registry = registry.New(registry.Config{
		Log: p.Raft, ServiceCIDR: ServiceCIDR, PodCIDR: PodCIDR, Window: c.opt.Window, Now: v.now, Logger: log,
		Admit:  func(ctx context.Context, a *registry.Admission) error { return chain.Admit(ctx, request(ctx, a)) },
		Charge: func(ctx context.Context, c *client.Charge) (func(uint64), error) { return p.master.Charge(ctx, c) },
	})
	chain = admission.New(admission.Config{Reader: p.Registry, EvictionGrace: grace, Now: v.now})
	p.master = master.New(master.Config{
		Client: p.Registry, Liveness: v, PodCIDR: PodCIDR, ServiceCIDR: ServiceCIDR, Domain: "cluster.local",
		EvictionGrace: grace, Clock: v.now, Log: log, Detector: &c.detector,
	})
	if !c.opt.NoNodes {
		p.node = newKubelet(c, name, log)
	}
	m := http.NewServeMux()
	m.HandleFunc("POST /peer/consensus/{method}", p.serveConsensus)
	m.Handle("/", masterapi.New(masterapi.Config{Registry: p.Registry, Auth: auth{name}, Peers: p, Version: "test", Now: v.now, Logger: log}))
	p.server = &http.Server{Handler: m, Protocols: &http.Protocols{}}
	p.server.Protocols.SetHTTP1(true)
	p.server.Protocols.SetUnencryptedHTTP2(true)
	return p
}

// start runs everything. The paths that roles act on end after the roles.
func (p *Peer) start() {
	base := p.c.base()
	roleCtx, stopRoles := context.WithCancel(base)
	coreCtx, stopCore := context.WithCancel(base)
	p.roles, p.core = stopRoles, stopCore
	core, coreCtx := errgroup.WithContext(coreCtx)
	core.Go(func() error { return p.Raft.Run(coreCtx) })
	core.Go(func() error { return p.Registry.Run(coreCtx) })
	core.Go(func() error { return p.serve(coreCtx) })
	core.Go(func() error { return p.announce(coreCtx) })
	roles, roleCtx := errgroup.WithContext(roleCtx)
	if p.node != nil {
		roles.Go(func() error { return p.node.run(roleCtx) })
	}
	go func() {
		defer close(p.ended)
		err := ignoreCancel(roles.Wait())
		p.err = errors.Join(err, ignoreCancel(core.Wait()))
		stopRoles()
		stopCore()
		p.hangUp()
		p.c.fire()
	}()
}

// stop ends the peer. At once means that it gets no chance to hand anything over.
func (p *Peer) stop(atOnce bool) {
	p.roles()
	if !atOnce {
		ctx, cancel := context.WithTimeout(p.c.base(), 3*time.Second)
		_ = p.Raft.TransferLeadership(ctx) // most are no Master, and nobody may be there to take it
		cancel()
	}
	p.core()
	<-p.ended
}

func (p *Peer) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.server.Close() })
	defer stop()
	if err := p.server.Serve(p.http); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// announce makes Until look again whenever this peer's store or role changes.
func (p *Peer) announce(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for ctx.Err() == nil {
			changed := p.Raft.Changed()
			p.c.fire()
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		return nil
	})
	g.Go(func() error {
		for rev := uint64(0); p.Registry.WaitRevision(ctx, rev+1) == nil; {
			rev = p.Registry.Revision()
			p.c.fire()
		}
		return nil
	})
	return g.Wait()
}

// lead does the Master's work, and remembers that it does.
func (p *Peer) lead(ctx context.Context, term uint64) error {
	p.leading.Store(term)
	p.c.fire()
	defer func() {
		p.leading.Store(0)
		p.c.fire()
	}()
	return p.master.Lead(ctx, term)
}

// Leading returns the term whose work the peer does at this moment, or zero.
func (p *Peer) Leading() uint64 { return p.leading.Load() }

// Call implements consensus.Caller.
func (p *Peer) Call(ctx context.Context, to consensus.PeerID, method string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(to)+"/peer/consensus/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := p.trans.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}

func (p *Peer) serveConsensus(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	out, err := p.Raft.Handle(r.Context(), consensus.PeerID(r.RemoteAddr), r.PathValue("method"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(out)
}

// Self implements the API's Peers.
func (p *Peer) Self() string { return p.Name }

// Master implements the API's Peers.
func (p *Peer) Master() (string, bool) {
	id, ok := p.Raft.Leader()
	return string(id), ok
}

// Changed implements the API's Peers.
func (p *Peer) Changed() <-chan struct{} { return p.Raft.Changed() }

// Holders implements the API's Peers: nothing is locked here.
func (p *Peer) Holders() []string { return nil }

// Redirect implements the API's Peers: everybody is believed here.
func (p *Peer) Redirect(*masterapi.User, string) (string, bool) { return "", false }

// RoundTripTo implements the API's Peers.
func (p *Peer) RoundTripTo(name string, r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "http", name, "", ""
	return p.trans.RoundTrip(out)
}

// newTransport carries requests between peers: many on one connection, which is given up when the other end is silent, and at the end
// of ctx. (A transport closes by itself only those that are idle by then.)
func newTransport(ctx context.Context, n *network, from string) *http.Transport {
	dial := dialer(n, from)
	t := &http.Transport{
		DialContext: func(dialing context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(dialing, network, addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
		Protocols: &http.Protocols{},
		HTTP2:     &http.HTTP2Config{SendPingTimeout: 2 * time.Second, PingTimeout: time.Second},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

func dialer(n *network, from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return n.dial(ctx, from, port{host, serviceHTTP})
	}
}

// newClient returns a client on a peer's machine, and what closes its connections.
func newClient(n *network, name, user string) (*client.HTTP, func()) {
	t := &http.Transport{DialContext: dialer(n, name)}
	h, err := client.NewHTTP(client.HTTPConfig{BaseURLs: []string{"http://" + name}, Transport: asserting{t, user}})
	if err != nil {
		panic(err) // the address is ours
	}
	return h, t.CloseIdleConnections
}

// asserting adds who the client is.
type asserting struct {
	http.RoundTripper
	user string
}

func (a asserting) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(headerTestUser, a.user)
	return a.RoundTripper.RoundTrip(r)
}

// stream carries Raft.
type stream struct{ *listener }

// Dial implements consensus.Stream.
func (s stream) Dial(to consensus.PeerID, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(listenerContext{s.listener}, max(timeout, time.Millisecond))
	defer cancel()
	return s.net.dial(ctx, s.port.peer, port{string(to), serviceRaft})
}

// listenerContext is done when a listener has been closed.
type listenerContext struct{ l *listener }

func (c listenerContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c listenerContext) Done() <-chan struct{}       { return c.l.done }
func (c listenerContext) Value(any) any               { return nil }
func (c listenerContext) Err() error {
	select {
	case <-c.l.done:
		return context.Canceled
	default:
		return nil
	}
}

// request puts a write of the registry into admission's words.
func request(ctx context.Context, a *registry.Admission) *admission.Request {
	r := &admission.Request{
		Operation: admission.Operation(a.Operation), Kind: a.Kind, Subresource: a.Subresource, Key: a.Key,
		Object: a.Object, OldObject: a.Old, DryRun: a.DryRun,
	}
	if u := masterapi.UserFrom(ctx); u != nil {
		r.User = &admission.User{Name: u.Name, Groups: u.Groups}
	}
	return r
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
