package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/gossip/gossiptest"
	"shoal/internal/api"
	"shoal/internal/config"
	"shoal/internal/pki"
)

// peersInABubble are the peers of a cluster in one process, as far as keys and certificates go: gossip, the log and what is between peers, over TLS on
// pipes, and disks. No objects, no pods. Time is virtual, so certificates live and end in no time.
type peersInABubble struct {
	t     *testing.T
	dir   string
	net   gossiptest.Network
	conf  func(*config.Config)
	names []string
	peers map[string]*bubblePeer
	log   *slog.Logger

	mu   sync.Mutex
	open map[string]*bubblePeer // those that run, by address
}

type bubblePeer struct {
	*Peer
	machine *gossiptest.Machine
	listen  *queue
	kill    context.CancelFunc
	ended   chan error

	lines sync.Mutex
	open  []net.Conn // to this peer
}

const echoPath = "/peer/echo"

func inABubble(t *testing.T, conf func(*config.Config), f func(t *testing.T, c *peersInABubble), names ...string) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		if testing.Verbose() {
			log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		c := &peersInABubble{t: t, dir: dir, conf: conf, peers: map[string]*bubblePeer{}, open: map[string]*bubblePeer{}, log: log}
		defer func() {
			for _, name := range c.names {
				c.kill(name)
			}
			time.Sleep(time.Minute) // what is left of connections ends
		}()
		for _, name := range names {
			c.start(name)
		}
		c.until("all are members and vote", func() bool {
			for _, p := range c.peers {
				if len(p.raft.Status().Voters) != len(names) {
					return false
				}
			}
			return true
		})
		f(t, c)
	})
}

// until waits for a condition, in virtual time.
func (c *peersInABubble) until(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			for _, what := range []string{api.RotateGossip, api.RotateCA} {
				if m := c.master(); m != nil {
					s, err := m.rotationStatus(what)
					c.t.Logf("%+v %v", s, err)
				}
			}
			c.t.Fatalf("for five minutes it has not come to pass that %s", what)
		}
	}
}

// pass lets virtual time pass.
func (c *peersInABubble) pass(d time.Duration) { time.Sleep(d) }

func (c *peersInABubble) master() *bubblePeer {
	for _, p := range c.peers {
		if id, ok := p.raft.Leader(); ok && p.kill != nil && string(id) == p.cfg.Name {
			return p
		}
	}
	return nil
}

// start starts a machine that has never run, or was killed.
func (c *peersInABubble) start(name string) *bubblePeer {
	c.t.Helper()
	conf := config.Default()
	conf.Name, conf.DataDir, conf.ClusterSecret = name, filepath.Join(c.dir, name), "a secret of the test"
	c.conf(conf)
	p := &bubblePeer{Peer: New(Config{Config: conf, Version: "test", Log: c.log.With("at", name)}), ended: make(chan error, 1)}
	if before := c.peers[name]; before != nil {
		p.machine = before.machine
		p.machine.On()
		p.machine = c.net.Replace(p.machine)
	} else {
		c.names = append(c.names, name)
		p.machine = c.net.Add(name)
	}
	ip, _, err := net.SplitHostPort(p.machine.AddrPort())
	must(c.t, err)
	p.advertise = net.ParseIP(ip)
	p.dir, err = openDataDir(conf.DataDir)
	must(c.t, err)
	c.enter(p)
	p.wires = wires{dial: c.dial, gossip: p.machine, answers: p.machine.Answers}
	p.listen = newQueue(p.machineAddr())
	p.mux = newMux(p.listen, p.front.tls(), p.log)
	p.wireTransport()
	must(c.t, p.wireGossip())
	p.wireRaft(func(ctx context.Context, _ uint64) error {
		if err := errors.Join(p.handKeysBack(), p.sealFounder(ctx), p.sealFounderRing(ctx)); err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return p.tend(ctx) })
		g.Go(func() error { return p.driveGossipRotation(ctx) })
		return g.Wait()
	})
	must(c.t, p.wireVault())
	m := http.NewServeMux()
	m.Handle("POST /peer/certificate", p.peerOnly(p.signFor(p.signPeer)))
	m.Handle("POST /peer/admin", p.peerOnly(p.signFor(p.signAdmin)))
	m.Handle("POST "+keyringPath, p.peerOnly(p.serveKeyring))
	m.Handle("POST /peer/consensus/{method}", p.peerOnly(p.serveConsensus))
	m.HandleFunc(echoPath, func(http.ResponseWriter, *http.Request) {})
	p.front.set(pki.ServerTLS(p.id, []string{"h2", "http/1.1", protoPeer, protoStream, protoRaft}, protoPeer, protoStream, protoRaft), p.onlyTrusted(m))
	c.peers[name] = p
	c.mu.Lock()
	c.open[ip] = p
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(c.t.Context())
	p.kill = cancel
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		p.mux.Run, p.serve, p.gossip.Run, p.raft.Run, p.renewals, p.keepKeyring, p.heedRemovals,
	} {
		g.Go(func() error { return run(ctx) })
	}
	go func() { p.ended <- g.Wait() }()
	return p
}

func (p *bubblePeer) machineAddr() net.Addr {
	return &net.TCPAddr{IP: p.advertise, Port: p.cfg.API.Port}
}

// enter makes a machine a member, or finds that it is one.
func (c *peersInABubble) enter(p *bubblePeer) {
	known, was, err := p.dir.read()
	must(c.t, err)
	self := hello{Name: p.cfg.Name, Address: p.address()}
	switch {
	case was:
		must(c.t, p.resume(known))
		return
	case len(c.peers) == 0:
		must(c.t, p.found(self))
		return
	}
	c.until("there is a Master", func() bool { return c.master() != nil })
	key, err := pki.NewKey()
	must(c.t, err)
	req, err := newJoinRequest(self, credential{secret: p.cfg.ClusterSecret}, key)
	must(c.t, err)
	a, err := c.master().admit(c.t.Context(), req)
	must(c.t, err)
	p.id, err = pki.NewIdentity(key, a.Chain)
	must(c.t, err)
	p.memory = memory{Name: p.cfg.Name, ClusterID: p.id.ClusterID(), Keys: a.Keys, Peers: a.Peers}
	must(c.t, p.belong())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kill ends a peer as a power cut does: it says nothing to anyone.
func (c *peersInABubble) kill(name string) {
	p := c.peers[name]
	if p.kill == nil {
		return
	}
	c.mu.Lock()
	delete(c.open, p.advertise.String())
	c.mu.Unlock()
	p.machine.Off()
	p.kill()
	p.kill = nil
	p.lines.Lock()
	for _, line := range p.open {
		_ = line.Close()
	}
	p.lines.Unlock()
	if err := <-p.ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errRemoved) {
		c.t.Errorf("%s ended with %v", name, err)
	}
	must(c.t, p.dir.Close())
}

func (c *peersInABubble) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	p := c.open[host(addr)]
	c.mu.Unlock()
	if p == nil {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	if !p.listen.put(ctx, far) {
		return nil, syscall.ECONNREFUSED
	}
	p.lines.Lock()
	defer p.lines.Unlock()
	p.open = append(p.open, near, far)
	return near, nil
}

// everyoneCallsEveryone has all peers speak with all others, on connections that they have and on new ones, and clients with all of them.
func (c *peersInABubble) everyoneCallsEveryone(clients map[string]*tls.Config) error {
	var errs []error
	for _, from := range c.names {
		for _, to := range c.names {
			p := c.peers[from]
			if from == to || p.kill == nil || c.peers[to].kill == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
			if _, err := p.transport.post(ctx, to, echoPath, nil); err != nil {
				errs = append(errs, fmt.Errorf("%s calls %s: %w", from, to, err))
			}
			conn, err := p.transport.dial(ctx, to, protoPeer)
			if err == nil {
				err = conn.Close()
			}
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				errs = append(errs, fmt.Errorf("%s calls %s anew: %w", from, to, err))
			}
			cancel()
		}
	}
	for who, conf := range clients {
		for _, to := range c.names {
			if c.peers[to].kill == nil {
				continue
			}
			if err := c.ask(to, conf); err != nil {
				errs = append(errs, fmt.Errorf("%s asks %s: %w", who, to, err))
			}
		}
	}
	return errors.Join(errs...)
}

// ask sends a request to a peer as a client does, on a connection of its own.
func (c *peersInABubble) ask(to string, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	conf = conf.Clone()
	conf.ServerName = to
	t := &http.Transport{
		TLSClientConfig: conf, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, c.peers[to].address()) },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+to+echoPath, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return resp.Body.Close()
}

// administrator returns how a client calls that has the files which a peer keeps for the command line.
func (c *peersInABubble) administrator(name string) *tls.Config {
	c.t.Helper()
	p := c.peers[name]
	pair, err := tls.LoadX509KeyPair(p.dir.join("pki", "admin.crt"), p.dir.join("pki", "admin.key"))
	must(c.t, err)
	pem, err := os.ReadFile(p.dir.join("pki", "ca.crt"))
	must(c.t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// hasFallen returns who was taken for away by somebody.
func (c *peersInABubble) hasFallen() (out []string) {
	for _, p := range c.peers {
		for _, m := range p.gossip.Members() {
			if p.kill != nil && c.peers[m.Name].kill != nil && p.Liveness(m.Name) != api.Alive {
				out = append(out, p.cfg.Name+" takes "+m.Name+" for "+string(m.State))
			}
		}
	}
	slices.Sort(out)
	return out
}
