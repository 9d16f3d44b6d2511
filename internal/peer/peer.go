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
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus"
	"shoal/gossip"
	"shoal/internal/config"
	"shoal/internal/pki"
	"shoal/master"
	"shoal/master/registry"
	"shoal/node"
)

// Config is what a peer is made of. Complete when passed to New.
type Config struct {
	*config.Config
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

	dir    *dataDir
	memory memory
	id     *pki.Identity

	mux        *mux
	transport  *transport
	gossip     *gossip.Gossip
	raft       *consensus.Node
	registry   *registry.Registry
	master     *master.Master
	node       *node.Node
	apiHandler http.Handler
}

// New returns a peer that has done nothing yet.
func New(c Config) *Peer {
	return &Peer{cfg: c.Config.Config(), version: c.Version, program: c.Program, log: c.Log, now: time.Now}
}

// Run starts the peer and blocks until ctx ends or a role fails for good. Pods run on when it returns.
func (p *Peer) Run(ctx context.Context) (err error) {
	p.dir, err = openDataDir(p.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.dir.Close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", hostPort(p.cfg.API.Address, p.cfg.API.Port))
	if err != nil {
		return fmt.Errorf("listen for the API: %w: is another program on port %d? (api.port changes ours)", err, p.cfg.API.Port)
	}
	defer listener.Close()
	if err := p.enter(ctx, listener); err != nil {
		return err
	}
	if err := p.wire(listener); err != nil {
		return err
	}
	return p.run(ctx)
}

// run runs every role. The order of starting is free, each waits for what it needs; the order of stopping is not.
func (p *Peer) run(ctx context.Context) error {
	// The data plane and the API stop first, then the Master's work moves, then the others are told, and the log stops last.
	core, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.mux.Run(core) })
	g.Go(func() error { return p.gossip.Run(core) })
	g.Go(func() error { return p.raft.Run(core) })
	_ = g
	_ = ctx
	return nil
}
