package testcluster

import (
	"context"
	"errors"
	"time"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
)

// fire tells everybody in Until that something changed.
func (c *Cluster) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.news)
	c.news = make(chan struct{})
}

func (c *Cluster) changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news
}

// Until waits until cond holds. It is asked again after every change of any peer's store, role or links.
func (c *Cluster) Until(what string, cond func() bool) {
	c.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		changed := c.changed()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			for _, name := range c.Names() {
				c.t.Logf("%s: %+v", name, c.Raft(name).Status())
			}
			c.t.Fatalf("never came true: %s", what)
		}
	}
}

// base is for what may also be done in a cleanup, when the test's own context has ended.
func (c *Cluster) base() context.Context { return context.WithoutCancel(c.t.Context()) }

// Retry does f until it succeeds.
func (c *Cluster) Retry(what string, f func(ctx context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.base(), patience)
	defer cancel()
	b := client.NewBackoff(10*time.Millisecond, time.Second)
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if werr := b.Wait(ctx); werr != nil {
			c.t.Fatalf("%s: %v", what, errors.Join(err, werr))
		}
	}
}

// Pass lets time go by, unless ctx ends first.
func Pass(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Master waits until a peer leads that a majority of the voters can reach, and returns its name.
func (c *Cluster) Master() string {
	c.t.Helper()
	var name string
	c.Until("there is a Master", func() (ok bool) {
		name, ok = c.master()
		return ok
	})
	return name
}

// master returns the peer that leads the newest term, if one does with a majority.
func (c *Cluster) master() (name string, ok bool) {
	var term uint64
	for _, n := range c.Names() {
		s := c.Raft(n).Status()
		if s.Role != consensus.RoleMaster || s.Term <= term {
			continue
		}
		reach := 0
		for _, v := range s.Voters {
			if string(v) == n || c.connected(n, string(v)) {
				reach++
			}
		}
		if reach > len(s.Voters)/2 {
			name, term, ok = n, s.Term, true
		}
	}
	return name, ok
}

// connected reports whether both run and can talk to each other.
func (c *Cluster) connected(a, b string) bool {
	c.mu.Lock()
	run := c.peers[a] != nil && c.peers[b] != nil
	c.mu.Unlock()
	return run && c.net.reaches(a, b)
}

// MoveMaster makes another peer the Master and returns its name.
func (c *Cluster) MoveMaster() string {
	c.t.Helper()
	old := c.Master()
	term := c.Raft(old).Term()
	_ = c.Raft(old).TransferLeadership(c.base()) // if it fails, nothing moved, and the next wait tells
	var name string
	c.Until("another term has a Master", func() (ok bool) {
		name, ok = c.master()
		return ok && c.Raft(name).Term() > term
	})
	return name
}

// WaitRev waits until the given peers, or all, show a revision.
func (c *Cluster) WaitRev(rev uint64, names ...string) {
	c.t.Helper()
	if len(names) == 0 {
		names = c.Names()
	}
	ctx, cancel := context.WithTimeout(c.base(), patience)
	defer cancel()
	for _, name := range names {
		if err := c.Registry(name).WaitRevision(ctx, rev); err != nil {
			c.t.Fatalf("%s stays at %d of %d: %+v", name, c.Registry(name).Revision(), rev, c.Raft(name).Status())
		}
	}
}

// Sync waits until all peers show everything that has been acknowledged.
func (c *Cluster) Sync() {
	c.t.Helper()
	var rev store.Rev
	c.Retry("read the newest revision", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		rev, err = c.Raft(c.Master()).ReadIndex(ctx)
		return err
	})
	c.WaitRev(uint64(rev))
}

// Compact makes all peers forget the history up to now.
func (c *Cluster) Compact() {
	c.t.Helper()
	c.Retry("compact", func(ctx context.Context) error {
		m := c.Raft(c.Master())
		_, err := m.Propose(ctx, store.Txn{Compact: m.Store().Rev()})
		return err
	})
	c.Sync()
}

// Raft is a peer's part in the consensus.
func (c *Cluster) Raft(name string) *consensus.Peer {
	c.t.Helper()
	return c.Peer(name).Raft
}

// Registry is a peer's registry, as the components in its process use it.
func (c *Cluster) Registry(name string) *registry.Registry {
	c.t.Helper()
	return c.Peer(name).Registry
}

// Client is an administrator's client at a peer, over HTTP.
func (c *Cluster) Client(name string) *client.HTTP {
	c.t.Helper()
	return c.ClientAs(name, userAdmin)
}

// ClientAs is somebody's client at a peer. It lives as long as the cluster.
func (c *Cluster) ClientAs(name, user string) *client.HTTP {
	c.t.Helper()
	h, closeIdle := newClient(c.net, name, user)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close = append(c.close, closeIdle)
	return h
}

// Liveness is what a peer believes of another's machine.
func (c *Cluster) Liveness(peer, of string) api.Liveness { return c.Peer(peer).view.Liveness(of) }
