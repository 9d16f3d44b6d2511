package gossip_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/gossip"
	"shoal/gossip/gossiptest"
)

// cluster is a few peers in one bubble of virtual time.
type cluster struct {
	t     *testing.T
	net   *gossiptest.Network
	peers map[string]*peer
	seeds []string
}

type peer struct {
	*gossip.Gossip
	machine *gossiptest.Machine
	stop    func() error // ends Run and returns its error
}

var key = []byte(strings.Repeat("k", 32))

// inBubble runs f with a cluster whose peers are all stopped at the end.
func inBubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: &gossiptest.Network{}, peers: map[string]*peer{}}
		t.Cleanup(func() { // also after a failure: goroutines left behind would hide it
			for _, p := range c.peers {
				_ = p.stop()
			}
			c.pass(time.Minute) // what memberlist started ends on its own deadlines
		})
		f(t, c)
	})
}

// start runs peers that join the first one.
func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.startAs(c.net.Add(name), func(*gossip.Config) {})
	}
}

func (c *cluster) startAs(m *gossiptest.Machine, change func(*gossip.Config)) *peer {
	c.t.Helper()
	if len(c.seeds) == 0 {
		c.seeds = []string{m.AddrPort()}
	}
	seeds := c.seeds
	cfg := gossip.Config{
		Name: m.Name, Label: "cluster.1", Keys: [][]byte{key}, Transport: m, Answers: m.Answers,
		Seeds: gossip.Seeds{Join: func() []string { return seeds }},
	}
	change(&cfg)
	g, err := gossip.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = g.Run(ctx)
	}()
	p := &peer{Gossip: g, machine: m, stop: func() error { cancel(); <-ended; return result }}
	c.peers[m.Name] = p
	return p
}

// kill ends the process, leaving the machine.
func (c *cluster) kill(name string) {
	_ = c.peers[name].stop()
	delete(c.peers, name)
}

// destroy ends the process and the machine.
func (c *cluster) destroy(name string) {
	c.peers[name].machine.Off()
	c.kill(name)
}

// pass lets virtual time go by.
func (c *cluster) pass(d time.Duration) {
	<-time.After(d)
}

// wait blocks until observer's view of the named members is as wanted, and returns how long that took.
func (c *cluster) wait(observer string, want map[string]gossip.State, limit time.Duration) time.Duration {
	c.t.Helper()
	start := time.Now()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	g := c.peers[observer]
	for {
		changed := g.Changed()
		got := map[string]gossip.State{}
		for name := range want {
			got[name] = g.State(name)
		}
		if maps.Equal(got, want) {
			return time.Since(start)
		}
		select {
		case <-changed:
		case <-timeout.C:
			c.t.Fatalf("after %v %s sees (-want +got):\n%s", limit, observer, cmp.Diff(want, got))
		}
	}
}

// waitAll waits for the same view at every running peer.
func (c *cluster) waitAll(want map[string]gossip.State, limit time.Duration) {
	c.t.Helper()
	for name := range c.peers {
		c.wait(name, want, limit)
	}
}

func states(s gossip.State, names ...string) map[string]gossip.State {
	m := map[string]gossip.State{}
	for _, n := range names {
		m[n] = s
	}
	return m
}

func with(m map[string]gossip.State, name string, s gossip.State) map[string]gossip.State {
	m = maps.Clone(m)
	m[name] = s
	return m
}

// history records the states of one member at an observer, each once in a row.
func (c *cluster) history(observer, name string) func() []gossip.State {
	var mu sync.Mutex
	g := c.peers[observer]
	var list []gossip.State
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			changed := g.Changed()
			s := g.State(name)
			mu.Lock()
			if len(list) == 0 || list[len(list)-1] != s {
				list = append(list, s)
			}
			mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() []gossip.State {
		cancel()
		<-ended
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}
