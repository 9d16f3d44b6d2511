package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/gossip"
	"shoal/gossip/gossiptest"
)

func TestJoinShowsEveryoneWithAddressAndMeta(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b")
		p := c.startAs(c.net.Add("c"), func(cfg *gossip.Config) { cfg.Meta = map[string]string{"zone": "z1"} })
		c.waitAll(states(gossip.Alive, "a", "b", "c"), 5*time.Second)
		m, _ := c.peers["a"].Member("c")
		if m.HostPort() != p.machine.AddrPort() || m.Meta["zone"] != "z1" {
			t.Errorf("a sees %+v", m)
		}
		if c.peers["a"].Isolated() || c.peers["c"].JoinError() != nil {
			t.Errorf("isolated %v, join error %v", c.peers["a"].Isolated(), c.peers["c"].JoinError())
		}
		if err := p.UpdateMeta(map[string]string{"zone": "z2"}); err != nil {
			t.Fatal(err)
		}
		for {
			changed := c.peers["a"].Changed()
			if m, _ := c.peers["a"].Member("c"); m.Meta["zone"] == "z2" {
				break
			}
			<-changed
		}
		if m, _ := p.Member("c"); m.Meta["zone"] != "z2" {
			t.Errorf("c sees %+v of itself", m)
		}
	})
}

func TestKilledProcessIsSilentAndFrozenOneToo(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c", "d")
		all := states(gossip.Alive, "a", "b", "c", "d")
		c.waitAll(all, 5*time.Second)
		c.kill("d")
		all["d"] = gossip.Silent
		c.waitAll(all, 5*time.Second)
		c.peers["c"].machine.Freeze()
		for _, observer := range []string{"a", "b"} {
			c.wait(observer, with(all, "c", gossip.Silent), 5*time.Second)
		}
		c.peers["c"].machine.On()
		c.waitAll(with(all, "c", gossip.Alive), 15*time.Second)
	})
}

func TestDestroyedMachineIsGoneWithinTwoSeconds(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				names := []string{"a", "b", "c", "d", "e"}[:n]
				c.start(names...)
				all := states(gossip.Alive, names...)
				c.waitAll(all, 5*time.Second)
				last := names[n-1]
				c.destroy(last)
				start := time.Now()
				c.waitAll(with(all, last, gossip.Gone), 10*time.Second)
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("took %v", took)
				} else {
					t.Logf("took %v", took)
				}
			})
		})
	}
}

func TestOnePeerThatReachesTheMachineKeepsItFromGone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c", "d")
		all := states(gossip.Alive, "a", "b", "c", "d")
		c.waitAll(all, 5*time.Second)
		d := c.peers["d"].machine
		for _, name := range []string{"a", "b"} {
			c.net.Cut(c.peers[name].machine, d)
		}
		c.kill("d")
		c.waitAll(with(all, "d", gossip.Silent), 10*time.Second)
		c.pass(time.Minute)
		c.waitAll(with(all, "d", gossip.Silent), time.Second)
	})
}

func TestSilentMachineThatDiesLaterIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		m := c.peers["c"].machine
		c.kill("c")
		c.waitAll(with(all, "c", gossip.Silent), 5*time.Second)
		c.pass(time.Minute)
		m.Off()
		c.waitAll(with(all, "c", gossip.Gone), 15*time.Second)
		c.pass(time.Minute)
		m = c.net.Replace(m) // booted, but its peer is not started
		m.Shutdown()
		c.waitAll(with(all, "c", gossip.Silent), 15*time.Second)
		c.startAs(c.net.Replace(m), func(*gossip.Config) {})
		c.waitAll(all, 10*time.Second)
	})
}

func TestRestartAtAnotherAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		c.destroy("c")
		p := c.startAs(c.net.Add("c"), func(*gossip.Config) {}) // at once: the others think the old one alive
		c.waitAll(all, 10*time.Second)
		c.pass(5 * time.Second)
		for _, observer := range []string{"a", "b", "c"} {
			if m, _ := c.peers[observer].Member("c"); m.HostPort() != p.machine.AddrPort() || m.State != gossip.Alive {
				t.Errorf("%s sees %+v", observer, m)
			}
		}
	})
}

func TestPartitionMakesTheOtherSideGoneAndHeals(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		names := []string{"a", "b", "c", "d", "e"}
		c.start(names...)
		all := states(gossip.Alive, names...)
		c.waitAll(all, 5*time.Second)
		c.net.Partition([]*gossiptest.Machine{c.peers["a"].machine, c.peers["b"].machine})
		few := maps.Clone(all)
		for _, n := range []string{"c", "d", "e"} {
			few[n] = gossip.Gone
		}
		many := with(with(all, "a", gossip.Gone), "b", gossip.Gone)
		for _, n := range []string{"a", "b"} {
			c.wait(n, few, 10*time.Second)
		}
		for _, n := range []string{"c", "d", "e"} {
			c.wait(n, many, 10*time.Second)
		}
		if c.peers["a"].Isolated() {
			t.Error("a sees b and is not isolated")
		}
		c.pass(5 * time.Minute) // memberlist has long forgotten the other side
		c.net.Heal()
		c.waitAll(all, 30*time.Second)
	})
}

func TestIsolatedPeerKnowsAndJudgesByItself(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		c.net.Partition([]*gossiptest.Machine{c.peers["c"].machine})
		c.wait("c", with(states(gossip.Gone, "a", "b"), "c", gossip.Alive), 10*time.Second)
		if !c.peers["c"].Isolated() || c.peers["a"].Isolated() {
			t.Errorf("c isolated %v, a isolated %v", c.peers["c"].Isolated(), c.peers["a"].Isolated())
		}
		c.net.Heal()
		c.waitAll(all, 20*time.Second)
		if c.peers["c"].Isolated() {
			t.Error("still isolated")
		}
	})
}

func TestLeaveIsNotAFaultUntilTheMachineGoes(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		seen := c.history("a", "c")
		m := c.peers["c"].machine
		if err := c.peers["c"].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kill("c")
		c.waitAll(with(all, "c", gossip.Left), 5*time.Second)
		c.pass(time.Minute)
		c.waitAll(with(all, "c", gossip.Left), time.Second)
		if diff := cmp.Diff([]gossip.State{gossip.Alive, gossip.Left}, seen()); diff != "" {
			t.Errorf("a saw c (-want +got):\n%s", diff)
		}
		c.startAs(c.net.Replace(m), func(*gossip.Config) {})
		c.waitAll(all, 5*time.Second)
		// The goodbye of before must not excuse a crash.
		c.kill("c")
		c.waitAll(with(all, "c", gossip.Silent), 5*time.Second)
	})
}

func TestLeftMachineThatIsSwitchedOffIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		if err := c.peers["c"].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.destroy("c")
		c.waitAll(with(all, "c", gossip.Gone), 15*time.Second)
	})
}

func TestSecondMachineWithALivingNameIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b")
		all := states(gossip.Alive, "a", "b")
		c.waitAll(all, 5*time.Second)
		first := c.peers["b"]
		second := c.startAs(c.net.Add("b"), func(*gossip.Config) {})
		c.peers["b"] = first
		c.pass(20 * time.Second)
		var dup *gossip.DuplicateNameError
		if err := second.stop(); !errors.As(err, &dup) || dup.Addr != first.machine.AddrPort() {
			t.Errorf("the second b ended with %v", err)
		}
		c.waitAll(all, time.Second)
		if m, _ := c.peers["a"].Member("b"); m.HostPort() != first.machine.AddrPort() {
			t.Errorf("a sees b at %s", m.HostPort())
		}
	})
}

func TestWrongKeyIsNamedAndRightKeyJoins(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a")
		b := c.startAs(c.net.Add("b"), func(cfg *gossip.Config) { cfg.Keys = [][]byte{[]byte(strings.Repeat("x", 32))} })
		c.pass(2 * time.Second)
		if err := b.JoinError(); !errors.Is(err, gossip.ErrWrongKey) {
			t.Errorf("join error %v", err)
		}
		if err := b.SetKeys(append([][]byte{key}, b.Keys()...)); err != nil {
			t.Fatal(err)
		}
		c.waitAll(states(gossip.Alive, "a", "b"), 10*time.Second)
		c.pass(time.Second)
		if err := b.JoinError(); err != nil {
			t.Errorf("join error %v", err)
		}
		if diff := cmp.Diff(key, b.Keys()[0]); diff != "" || len(b.Keys()) != 2 {
			t.Errorf("keys %q", b.Keys())
		}
	})
}

func TestKeyRotationLosesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c")
		all := states(gossip.Alive, "a", "b", "c")
		c.waitAll(all, 5*time.Second)
		seen := c.history("a", "c")
		next := []byte(strings.Repeat("n", 32))
		for _, keys := range [][][]byte{{key, next}, {next, key}, {next}} {
			for _, p := range c.peers {
				if err := p.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				c.pass(3 * time.Second)
			}
		}
		for name, p := range c.peers {
			if diff := cmp.Diff([][]byte{next}, p.Keys()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if diff := cmp.Diff([]gossip.State{gossip.Alive}, seen()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestNewsAreHeardWhileAMachineDies: what a peer says of itself at that moment does not wait until the others compare all they know.
func TestNewsAreHeardWhileAMachineDies(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond, time.Second} {
		inBubble(t, func(t *testing.T, c *cluster) {
			for _, name := range []string{"a", "b", "c"} {
				c.startAs(c.net.Add(name), func(cfg *gossip.Config) {
					cfg.Timings = gossip.Timings{ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond, Suspicion: 1, GossipInterval: 2 * time.Second}
				})
			}
			c.waitAll(states(gossip.Alive, "a", "b", "c"), 5*time.Second)
			c.pass(5 * time.Second) // they have compared what they know
			c.peers["c"].machine.Off()
			c.pass(after)
			if err := c.peers["b"].UpdateMeta(map[string]string{"news": "heard"}); err != nil {
				t.Fatal(err)
			}
			c.pass(6 * time.Second)
			if m, _ := c.peers["a"].Member("b"); m.Meta["news"] != "heard" {
				t.Errorf("said %v after a death: %v", after, m.Meta)
			}
		})
	}
}

func TestOtherLabelDoesNotMix(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a")
		b := c.startAs(c.net.Add("b"), func(cfg *gossip.Config) { cfg.Label = "cluster.2" })
		c.pass(5 * time.Second)
		if err := b.JoinError(); err == nil || !strings.Contains(err.Error(), "another cluster") {
			t.Errorf("join error %v", err)
		}
		if len(c.peers["a"].Members()) != 1 || len(b.Members()) != 1 {
			t.Errorf("a sees %v, b sees %v", c.peers["a"].Members(), b.Members())
		}
	})
}

func TestWholeClusterRestartsFromKnownAddressesInAnyOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		known := map[string]string{}
		var machines []*gossiptest.Machine
		for _, name := range []string{"a", "b", "c", "d"} {
			m := c.net.Add(name)
			machines = append(machines, m)
			known[name] = m.AddrPort()
		}
		machines[3].Off() // d does not come back
		var mu sync.Mutex
		remembered := map[string]string{}
		for i := 2; i >= 0; i-- {
			c.startAs(machines[i], func(cfg *gossip.Config) {
				cfg.Seeds.Known, cfg.Seeds.Join = known, nil
				if i == 0 {
					cfg.Seeds.Remember = func(addrs map[string]string) {
						mu.Lock()
						defer mu.Unlock()
						remembered = addrs
					}
				}
			})
			c.pass(time.Second)
		}
		c.waitAll(with(states(gossip.Alive, "a", "b", "c"), "d", gossip.Gone), 20*time.Second)
		delete(known, "a")
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(known, remembered); diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
		c.peers["a"].Forget("d")
		if s := c.peers["a"].State("d"); s != gossip.Unknown {
			t.Errorf("a forgot d and sees it %s", s)
		}
	})
}

func TestTwentyMembersInOneProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("peer-%02d", i))
		}
		c.start(names...)
		all := states(gossip.Alive, names...)
		c.waitAll(all, 20*time.Second)
		c.destroy("peer-07")
		start := time.Now()
		c.waitAll(with(all, "peer-07", gossip.Gone), 15*time.Second)
		t.Logf("gone after %v", time.Since(start))
		c.kill("peer-08")
		all["peer-07"], all["peer-08"] = gossip.Gone, gossip.Silent
		c.waitAll(all, 15*time.Second)
	})
}

func TestHealthyClusterStaysQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.start("a", "b", "c", "d", "e")
		c.waitAll(states(gossip.Alive, "a", "b", "c", "d", "e"), 5*time.Second)
		changed := c.peers["a"].Changed()
		c.pass(2 * time.Minute)
		select {
		case <-changed:
			t.Error("something changed")
		default:
		}
	})
}

func TestPortInUseIsAnError(t *testing.T) {
	run := func(port int) (*gossip.Gossip, context.CancelFunc, chan error) {
		g, err := gossip.New(gossip.Config{Name: "a", BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1", Port: port, Keys: [][]byte{key}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		return g, cancel, ended
	}
	const port = 17946
	g, cancel, ended := run(port)
	defer func() { cancel(); <-ended }()
	for changed := g.Changed(); g.State("a") != gossip.Alive; changed = g.Changed() {
		select {
		case <-changed:
		case err := <-ended:
			ended <- err
			t.Fatalf("port %d is not free here: %v", port, err)
		}
	}
	_, cancel2, ended2 := run(port)
	defer cancel2()
	if err := <-ended2; err == nil || !strings.Contains(err.Error(), "17946") {
		t.Errorf("the second one ended with %v", err)
	}
}
