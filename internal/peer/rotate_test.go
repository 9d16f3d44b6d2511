package peer

import (
	"crypto/tls"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/config"
	"shoal/internal/pki"
)

// inPhase reports whether a rotation has come to a phase, wherever a Master sees that.
func (c *peersInABubble) inPhase(what, phase string) func() bool {
	return func() bool {
		m := c.master()
		if m == nil {
			return false
		}
		s, err := m.rotationStatus(what)
		return err == nil && s.Phase == phase && len(s.Waiting) == 0
	}
}

func (c *peersInABubble) rotate(what string, req api.RotationRequest) {
	c.t.Helper()
	c.until("a rotation begins", func() bool {
		m := c.master()
		if m == nil {
			return false
		}
		_, err := m.rotate(c.t.Context(), what, req)
		return err == nil
	})
}

// oneKey fails unless all have the same one key of gossip, and another one than before.
func (c *peersInABubble) oneKey(before string) string {
	c.t.Helper()
	now := fingerprints(c.peers[c.names[0]].gossip.Keys())
	for name, p := range c.peers {
		m, _, err := p.dir.read()
		if has := fingerprints(p.gossip.Keys()); err != nil || has != now || fingerprints(m.Keys) != now || now == before || len(now) != 12 {
			c.t.Errorf("%s has the keys %s, %s on its disk (%v); another one %s; before it was %s", name, has, fingerprints(m.Keys), err, now, before)
		}
	}
	return now
}

func asIs(*config.Config) {}

func TestGossipsKeyIsRotatedUnderLoad(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		before := c.oneKey("")
		for range 3 {
			c.rotate(api.RotateGossip, api.RotationRequest{})
			c.until("it is done", func() bool {
				if away := c.hasFallen(); len(away) > 0 {
					t.Fatal(away)
				}
				return c.inPhase(api.RotateGossip, api.RotationDone)()
			})
			before = c.oneKey(before)
		}
		if err := c.everyoneCallsEveryone(nil); err != nil {
			t.Error(err)
		}
	}, "a", "b", "c")
}

// TestARotationOutlivesItsMasters kills the Master in each phase: the next one goes on, and the one that was killed finds its way.
func TestARotationOutlivesItsMasters(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		before := c.oneKey("")
		kill := func(what, phase string) {
			t.Helper()
			c.until("it is in "+phase, func() bool {
				m := c.master()
				if m == nil {
					return false
				}
				s, err := m.rotationStatus(what)
				return err == nil && s.Phase == phase
			})
			dead := c.master().cfg.Name
			c.kill(dead)
			c.until("another one leads", func() bool { return c.master() != nil })
			c.start(dead)
		}
		for _, phase := range []string{phaseInstall, phaseUse, phaseRemove} {
			// Who is down stops a phase; who is killed in the next one has obeyed the one before.
			c.rotate(api.RotateGossip, api.RotationRequest{})
			kill(api.RotateGossip, phase)
			c.until("it is done", c.inPhase(api.RotateGossip, api.RotationDone))
			before = c.oneKey(before)
		}
		for _, phase := range []string{phaseTrust, phaseSign, phaseOverlap, phaseServe, phaseForget} {
			was := pki.Hash(c.master().id.CA())
			c.rotate(api.RotateCA, api.RotationRequest{OverlapSeconds: 60})
			kill(api.RotateCA, phase)
			c.until("it is done", c.inPhase(api.RotateCA, api.RotationDone))
			for name, p := range c.peers {
				id, err := pki.LoadIdentity(p.dir.join("pki"))
				if err != nil || len(id.CAs()) != 1 || pki.Hash(id.CA()) == was || !id.CA().Equal(c.master().id.CA()) {
					t.Errorf("after a death in %s %s trusts %s: %v", phase, name, p.saysTrust(), err)
				}
			}
			if err := c.everyoneCallsEveryone(nil); err != nil {
				t.Errorf("after a death in %s: %v", phase, err)
			}
		}
	}, "a", "b", "c")
}

// TestTheCAIsRotatedUnderLoad has peers call each other, and clients that know the old CA, and new ones, while the CA is rotated and certificates come
// of age: nobody notices until the overlap is over, and then only the old clients do.
func TestTheCAIsRotatedUnderLoad(t *testing.T) {
	short := func(conf *config.Config) {
		conf.Master.PeerCertificates, conf.Master.AdminCertificates = 10*time.Minute, 40*time.Minute
	}
	inABubble(t, short, func(t *testing.T, c *peersInABubble) {
		var renewed []time.Time
		look := func() {
			if at := c.peers["a"].id.Certificate().Leaf.NotAfter; len(renewed) == 0 || !at.Equal(renewed[len(renewed)-1]) {
				renewed = append(renewed, at)
			}
		}
		c.until("there is a certificate for the command line", func() bool {
			_, err := tls.LoadX509KeyPair(c.peers["a"].dir.join("pki", "admin.crt"), c.peers["a"].dir.join("pki", "admin.key"))
			return err == nil
		})
		clients := map[string]*tls.Config{"the old administrator": c.administrator("a")}
		began := time.Now()
		c.rotate(api.RotateCA, api.RotationRequest{})
		c.until("the new CA signs", func() bool {
			look()
			if err := c.everyoneCallsEveryone(clients); err != nil {
				t.Fatal(err)
			}
			return c.inPhase(api.RotateCA, phaseOverlap)()
		})
		t.Logf("both CAs are in use after %v", time.Since(began))
		for name := range c.peers {
			clients["the administrator of "+name] = c.administrator(name)
		}
		status, err := c.master().rotationStatus(api.RotateCA)
		must(t, err)
		if overlap := status.Until.Sub(began).Round(time.Minute); overlap != 40*time.Minute {
			t.Errorf("the overlap is %v", overlap)
		}
		for c.inPhase(api.RotateCA, phaseOverlap)() && time.Until(*status.Until) > 15*time.Minute {
			look()
			if err := c.everyoneCallsEveryone(clients); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			c.pass(time.Minute)
		}
		if away := c.hasFallen(); len(away) > 0 {
			t.Error(away)
		}
		for _, p := range c.peers {
			if err := c.ask(p.cfg.Name, clients["the old administrator"]); err != nil {
				t.Errorf("the old administrator asks %s: %v", p.cfg.Name, err)
			}
		}
		old := clients["the old administrator"]
		delete(clients, "the old administrator")
		c.rotate(api.RotateCA, api.RotationRequest{Finish: true})
		c.until("it is done", func() bool {
			if err := c.everyoneCallsEveryone(clients); err != nil {
				t.Fatal(err)
			}
			return c.inPhase(api.RotateCA, api.RotationDone)()
		})
		for name := range c.peers {
			if err := c.ask(name, old); err == nil {
				t.Errorf("the old administrator is let in at %s", name)
			}
		}
		if err := c.everyoneCallsEveryone(clients); err != nil {
			t.Error(err)
		}
		// Three lives of a certificate later.
		for end := time.Now().Add(30 * time.Minute); time.Now().Before(end); c.pass(time.Minute) {
			look()
			if err := c.everyoneCallsEveryone(nil); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		if err := c.everyoneCallsEveryone(map[string]*tls.Config{"the administrator of today": c.administrator("b")}); err != nil {
			t.Error(err)
		}
		if len(renewed) < 5 {
			t.Errorf("the certificate ended at %v, and no other times", renewed)
		}
	}, "a", "b", "c")
}

// TestWhoSleptThroughARotationOfGossipsKey: it was not waited for, has keys that nobody knows any more, and gets the others' by its certificate.
func TestWhoSleptThroughARotationOfGossipsKey(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		before := c.oneKey("")
		c.until("c does not lead", func() bool {
			if m := c.master(); m != nil && m.cfg.Name == "c" {
				must(t, m.abdicate(t.Context()))
			}
			return c.master() != nil && c.master().cfg.Name != "c"
		})
		c.kill("c")
		c.rotate(api.RotateGossip, api.RotationRequest{})
		c.until("c is waited for", func() bool {
			m := c.master()
			if m == nil {
				return false
			}
			s, err := m.rotationStatus(api.RotateGossip)
			return err == nil && len(s.Waiting) == 1 && s.Waiting[0].Peer == "c"
		})
		c.rotate(api.RotateGossip, api.RotationRequest{Without: []string{"c"}})
		c.until("it is done without c", c.inPhase(api.RotateGossip, api.RotationDone))
		c.start("c")
		c.until("c is back", func() bool {
			return len(c.hasFallen()) == 0 && fingerprints(c.peers["c"].gossip.Keys()) == fingerprints(c.peers["a"].gossip.Keys())
		})
		c.oneKey(before)
	}, "a", "b", "c")
}

// TestAMachineJoinsDuringARotation that waits for another one, and is then one of those who are waited for.
func TestAMachineJoinsDuringARotation(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		before, was := c.oneKey(""), pki.Hash(c.peers["a"].id.CA())
		away := "c"
		if c.master().cfg.Name == away {
			away = "b"
		}
		c.kill(away)
		c.rotate(api.RotateGossip, api.RotationRequest{})
		c.rotate(api.RotateCA, api.RotationRequest{OverlapSeconds: 60})
		c.pass(10 * time.Second)
		c.start("d")
		c.until("d holds and trusts what is new", func() bool {
			d := c.peers["d"]
			return len(d.gossip.Keys()) == 2 && len(d.id.CAs()) == 2 && len(c.hasFallen()) == 0 && c.everyoneCallsEveryone(nil) == nil
		})
		for _, what := range []string{api.RotateGossip, api.RotateCA} {
			c.until("nobody but "+away+" is waited for", func() bool {
				s, err := c.master().rotationStatus(what)
				return err == nil && len(s.Waiting) == 1 && s.Waiting[0].Peer == away && s.Peers == 4
			})
		}
		c.start(away)
		c.until("gossip's is done", c.inPhase(api.RotateGossip, api.RotationDone))
		c.oneKey(before)
		c.until("the CA is done", c.inPhase(api.RotateCA, api.RotationDone))
		for name, p := range c.peers {
			if len(p.id.CAs()) != 1 || pki.Hash(p.id.CA()) == was {
				t.Errorf("%s trusts %s", name, p.saysTrust())
			}
		}
		if err := c.everyoneCallsEveryone(nil); err != nil {
			t.Error(err)
		}
	}, "a", "b", "c")
}

// TestWhoComesBackInTheOverlap was not waited for, and knows the old CA alone: the others understand it and it them, so it learns of the new.
func TestWhoComesBackInTheOverlap(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		was := pki.Hash(c.peers["a"].id.CA())
		away := "c"
		if c.master().cfg.Name == away {
			away = "b"
		}
		c.kill(away)
		c.rotate(api.RotateCA, api.RotationRequest{Without: []string{away}, OverlapSeconds: 600})
		c.until("the new CA signs", c.inPhase(api.RotateCA, phaseOverlap))
		c.start(away)
		c.until("it has what the others have", func() bool {
			p := c.peers[away]
			return len(p.id.CAs()) == 2 && pki.Hash(p.id.CA()) != was && pki.Hash(p.id.ServerCA()) == was && len(c.hasFallen()) == 0
		})
		if err := c.everyoneCallsEveryone(nil); err != nil {
			t.Error(err)
		}
		c.rotate(api.RotateCA, api.RotationRequest{Finish: true})
		c.until("it is done", c.inPhase(api.RotateCA, api.RotationDone))
		c.until("everywhere", func() bool { return len(c.peers[away].id.CAs()) == 1 })
		if err := c.everyoneCallsEveryone(nil); err != nil {
			t.Error(err)
		}
	}, "a", "b", "c")
}
