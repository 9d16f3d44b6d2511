// Package peer is one peer: it finds or makes its identity, wires the roles together and runs them. Everything that one role
// needs of another passes through here. cmd calls it, nothing else does. Its one invariant: when Run returns, every goroutine
// it started has ended, and the pods go on.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus"
	"shoal/gossip"
	"shoal/internal/api"
	"shoal/internal/audit"
	"shoal/internal/client"
	"shoal/internal/config"
	"shoal/internal/pki"
	"shoal/master"
	"shoal/master/registry"
)

// Config is what a peer is made of. Complete when passed to New.
type Config struct {
	Config  *config.Config
	Version string
	Program string // path of the binary, for the keeper
	Log     *slog.Logger
}

// Peer is one machine's part of the cluster.
type Peer struct {
	cfg     *config.Config
	version string
	program string
	log     *slog.Logger
	now     func() time.Time

	dir       *dataDir
	advertise net.IP
	keeping   sync.Mutex // one at a time changes memory
	memory    memory
	id        *pki.Identity

	admin     sync.Mutex // one at a time gets the administrator's certificate
	telling   sync.Mutex // one at a time says by gossip what there is to say
	wired     func()     // called once the peer shows its certificate
	wires     wires
	front     *front
	mux       *mux
	transport *transport
	gossip    *gossip.Gossip
	raft      *consensus.Peer
	vault     *vault
	resealing sync.Mutex // one at a time seals Secrets anew
	resealed  string     // the key that all Secrets have been found under; only tend touches it
	registry  *registry.Registry
	authority *authority
	master    *master.Master
	loops     *client.LoopMetrics
	machine   *machine
	api       http.Handler
	audit     *audit.Log // nil: nobody wants one
}

// New returns a peer that has done nothing yet.
func New(c Config) *Peer {
	return &Peer{cfg: c.Config, version: c.Version, program: c.Program, log: c.Log, now: time.Now, front: &front{}, wired: func() {}, loops: client.NewLoopMetrics()}
}

// Run starts the peer and blocks until ctx ends or a role fails for good. Pods run on when it returns.
func (p *Peer) Run(ctx context.Context) (err error) {
	p.dir, err = openDataDir(p.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.dir.Close()) }()
	defer p.closeAudit()
	if p.advertise, err = advertised(p.cfg.AdvertiseAddress); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", hostPort(p.cfg.API.Address, p.cfg.API.Port))
	if err != nil {
		return fmt.Errorf("%w: does another program use port %d? (api.port changes ours)", err, p.cfg.API.Port)
	}
	p.mux = newMux(listener, p.front.tls(), p.log)

	// The order of starting is free: each role waits for what it needs. The order of stopping is not. What ends with ctx stops
	// first: the roles that act. What ends with core stops after them: the paths they act on, in the order of stop.
	core, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	paths, core := errgroup.WithContext(core)
	paths.Go(func() error { return p.mux.Run(core) })
	paths.Go(func() error { return p.serve(core) })
	acts := func() error {
		if err := p.enter(ctx); err != nil {
			return ignoreCancel(err) // told to stop before it was in a cluster
		}
		if err := p.wire(ctx); err != nil {
			return err
		}
		p.wired()
		return p.act(ctx, core, paths)
	}
	// A path that breaks ends the roles, too.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(core, func() { cancel(context.Cause(core)) })
	defer stop()
	err = acts()
	stopCore()
	// A path that broke is the cause of what the roles say.
	if broken := ignoreCancel(paths.Wait()); broken != nil {
		return broken
	}
	return p.noteRemoval(p.noteEpoch(err))
}

// act runs gossip and the log on core, and the roles above them on ctx. When ctx ends, the roles end, then leadership is
// handed over and the others are told, and then it returns; its caller ends core.
func (p *Peer) act(ctx, core context.Context, paths *errgroup.Group) error {
	paths.Go(func() error { return p.gossip.Run(core) })
	paths.Go(func() error { return damaged(p.raft.Run(core)) })
	paths.Go(func() error { return p.registry.Run(core) })

	roles, ctx := errgroup.WithContext(ctx)
	roles.Go(func() error { return p.machine.run(ctx) })
	roles.Go(func() error { return p.renewals(ctx) })
	roles.Go(func() error { return p.keepKeyring(ctx) })
	roles.Go(func() error { return p.announce(ctx) })
	roles.Go(func() error { return p.leftBehind(ctx) })
	roles.Go(func() error { return p.heedRemovals(ctx) })
	roles.Go(func() error { return p.backups(ctx) })
	roles.Go(func() error { return p.tellDisk(ctx) })
	roles.Go(func() error { return whenCalm(ctx, p.raft.Store(), new(heap).free) })
	roles.Go(func() error {
		return p.transport.cutAway(ctx, p.gossip.Changed, func(name string) bool {
			state := p.Liveness(name)
			return state == api.Silent || state == api.Gone
		})
	})
	err := ignoreCancel(roles.Wait())
	p.farewell(core)
	return err
}

// announce waits until this peer serves, and the cluster has what every cluster has, and tells the service manager.
func (p *Peer) announce(ctx context.Context) error {
	select {
	case <-p.raft.Ready():
	case <-ctx.Done():
		return nil
	}
	for {
		changed := p.raft.Changed()
		if _, err := p.waitMaster(ctx); err == nil {
			if _, err := p.raft.ReadIndex(ctx); err == nil && (!p.memory.Founder || p.hasAdmin(ctx)) && master.AwaitBootstrap(ctx, p.registry) == nil {
				break
			}
		}
		select {
		case <-changed:
		case <-time.After(masterWait):
		case <-ctx.Done():
			return nil
		}
	}
	p.log.Info("ready", "api", "https://"+p.address())
	if err := notifyReady(); err != nil {
		p.log.Warn("cannot tell the service manager", "err", err)
	}
	return nil
}

func (p *Peer) hasAdmin(ctx context.Context) bool {
	_, err := p.ensureAdmin(ctx)
	return err == nil
}

// farewell hands leadership over and tells the others that this is a planned stop, each within bounds.
func (p *Peer) farewell(ctx context.Context) {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"hand leadership over", p.abdicate},
		{"say goodbye", p.gossip.Leave},
	} {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		if err := step.do(one); err != nil && !errors.Is(err, consensus.ErrNotMaster) && ctx.Err() == nil {
			p.log.Warn("cannot "+step.what, "err", err)
		}
		cancel()
	}
}

// abdicate makes another voter the Master, if there is one.
func (p *Peer) abdicate(ctx context.Context) error {
	if len(p.raft.Status().Voters) < 2 {
		return nil
	}
	return p.raft.TransferLeadership(ctx)
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
