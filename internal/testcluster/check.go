package testcluster

import (
	"sync"
	"testing/synctest"

	"shoal/consensus/store"
	"shoal/internal/client"
)

// compare heals the cluster and compares the peers.
func (c *Cluster) compare() {
	c.Heal()
	if !c.t.Failed() && len(c.Names()) > 0 {
		c.Same()
	}
}

// end stops the peers, and checks that nothing is left of them and nobody changed what is shared.
func (c *Cluster) end() {
	var all sync.WaitGroup
	for _, name := range c.Names() {
		p := c.Peer(name)
		all.Go(func() { p.stop(false) })
	}
	all.Wait()
	for _, name := range c.Names() {
		c.gone(c.Peer(name))
	}
	for _, f := range c.close {
		f()
	}
	if err := c.detector.Check(); err != nil {
		c.t.Error(err)
	}
	synctest.Wait()
	if open := c.net.open(); len(open) > 0 {
		c.t.Errorf("connections were left open: %q", open)
	}
}

// Detector watches for changes of shared objects in the caches that are given it; the cluster checks it at its end.
func (c *Cluster) Detector() *client.MutationDetector { return &c.detector }

// Same waits until all peers are at one revision, and fails unless they hold the same there.
func (c *Cluster) Same() {
	c.t.Helper()
	c.Until("all peers are at one revision", func() bool {
		var rev store.Rev
		hashes := map[string]string{}
		for _, name := range c.Names() {
			st := c.Raft(name).Store()
			before := st.Rev()
			hash := st.Hash()
			if st.Rev() != before || rev != 0 && rev != before || before == 0 {
				return false
			}
			rev, hashes[name] = before, hash
		}
		first := c.Names()[0]
		for name, hash := range hashes {
			if hash != hashes[first] {
				c.t.Fatalf("%s and %s differ at revision %d", first, name, rev)
			}
		}
		return true
	})
	c.Sync()
}
