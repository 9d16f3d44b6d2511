package peer

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/consensus"
	"shoal/internal/config"
	"shoal/internal/crash"
	"shoal/internal/pki"
)

// TestACrashLeavesNoHalfPeer kills a machine at every change of a file while it founds a cluster and has its certificate renewed. It can
// always go on: as what it was, or from the beginning.
func TestACrashLeavesNoHalfPeer(t *testing.T) {
	open := func(dir string) (*Peer, error) {
		d, err := openDataDir(filepath.Join(dir, "data"))
		return &Peer{cfg: config.Default(), dir: d, log: slog.New(slog.DiscardHandler), now: time.Now}, err
	}
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		p, err := open(dir)
		if err != nil {
			return err
		}
		if err := p.found(hello{Name: "here", Address: "127.0.0.2:6443"}); err != nil {
			return err
		}
		ack("founded")
		if err := renewFrom(p); err != nil {
			return err
		}
		ack("renewed")
		return nil
	}, func(t *testing.T, dir string, acked []string) {
		p, err := open(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer p.dir.Close()
		known, in, err := p.dir.read()
		switch {
		case err != nil:
			t.Errorf("what it remembers: %v", err)
			return
		case !in && len(acked) > 0:
			t.Errorf("it has forgotten that it %v", acked)
		case !in:
			if err := p.found(hello{Name: "here", Address: "127.0.0.2:6443"}); err != nil {
				t.Errorf("it cannot begin again: %v", err)
				return
			}
			known = p.memory
		}
		id, err := pki.LoadIdentity(p.dir.join("pki"))
		if err != nil || id.ClusterID() != known.ClusterID || !known.Founder || len(known.Keys) != 1 {
			t.Errorf("its identity: %v, remembered is %+v", err, known)
			return
		}
		if err := id.Certificate().Leaf.VerifyHostname("127.0.0.1"); slices.Contains(acked, "renewed") && err != nil {
			t.Errorf("the new certificate is lost: %v", err)
		}
		key, err := os.ReadFile(p.caKeyFile())
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := pki.ParseCA(id.CAPEM(), key); err != nil {
			t.Errorf("the CA's key: %v", err)
		}
		p.id, p.memory = id, known
		if err := renewFrom(p); err != nil {
			t.Errorf("renew: %v", err)
		}
		if beside, err := os.ReadFile(p.dir.join("pki", "ca.crt")); err != nil || !bytes.Equal(beside, id.CAPEM()) {
			t.Errorf("the CA's certificate beside it: %v", err)
		}
	})
}

// TestACrashKeepsGossipsKeys kills a machine at every change of a file while the key is rotated: what it has said it holds, it holds.
func TestACrashKeepsGossipsKeys(t *testing.T) {
	old, fresh := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("n"), 32)
	stages := [][][]byte{{old}, {old, fresh}, {fresh, old}, {fresh}}
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		d, err := openDataDir(dir)
		if err != nil {
			return err
		}
		c := config.Default()
		c.Name = "here"
		p := New(Config{Config: c, Log: slog.New(slog.DiscardHandler)})
		p.dir, p.memory, p.advertise = d, memory{Name: "here", Keys: stages[0]}, net.IPv4(127, 0, 0, 1)
		p.id = testIdentity(t, "here")
		if err := errors.Join(d.write(p.memory), p.wireGossip()); err != nil {
			return err
		}
		p.raft = consensus.New(consensus.Config{ID: "here", Dir: d.join("raft")})
		for _, keys := range stages {
			if err := p.setKeys(keys); err != nil {
				return err
			}
			ack(p.meta("", p.gossip.Keys())[metaKeys])
		}
		return nil
	}, func(t *testing.T, dir string, acked []string) {
		d, err := openDataDir(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close()
		m, in, err := d.read()
		if err != nil || !in && len(acked) > 0 {
			t.Errorf("what it remembers: %v %v", in, err)
		}
		if len(acked) == 0 {
			return
		}
		last := slices.IndexFunc(stages, func(keys [][]byte) bool { return fingerprints(keys) == acked[len(acked)-1] })
		if now := fingerprints(m.Keys); now != fingerprints(stages[last]) && now != fingerprints(stages[min(last+1, len(stages)-1)]) {
			t.Errorf("it said it held %v and holds %s", acked, now)
		}
	})
}

// TestACrashLeavesPapersOfOnePhase kills a machine at every change of a file while it does what a rotation of the CA asks.
func TestACrashLeavesPapersOfOnePhase(t *testing.T) {
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		d, err := openDataDir(filepath.Join(dir, "data"))
		if err != nil {
			return err
		}
		p := &Peer{cfg: config.Default(), dir: d, log: slog.New(slog.DiscardHandler), now: time.Now}
		if err := p.found(hello{Name: "here", Address: "127.0.0.2:6443"}); err != nil {
			return err
		}
		before := p.id.CA()
		ack(shape(p.id, before))
		key, err := os.ReadFile(p.caKeyFile())
		if err != nil {
			return err
		}
		old, err := pki.ParseCA(p.id.CAPEM(), key)
		if err != nil {
			return err
		}
		fresh, err := pki.NewCA(old.ClusterID(), p.now())
		if err != nil {
			return err
		}
		pem, err := p.id.Request(nil)
		if err != nil {
			return err
		}
		csr, err := pki.ParseRequest(pem)
		if err != nil {
			return err
		}
		client, err := fresh.IssuePeer(csr, p.profile("here"), p.now())
		if err != nil {
			return err
		}
		server, err := old.IssuePeer(csr, p.profile("here"), p.now())
		if err != nil {
			return err
		}
		for _, change := range []func() error{
			func() error { return p.trust(old.Cert(), fresh.Cert()) },
			func() error { return p.id.Replace(pki.Chain(client, server, nil)) },
			p.id.ShowOne,
			func() error { return p.trust(fresh.Cert()) },
		} {
			if err := errors.Join(change(), p.id.Save(d.join("pki"))); err != nil {
				return err
			}
			ack(shape(p.id, before))
		}
		return nil
	}, func(t *testing.T, dir string, acked []string) {
		shapes := []string{"AA A", "AA AB", "BA AB", "BB AB", "BB B"}
		if len(acked) == 0 {
			return // it founds again
		}
		at := filepath.Join(dir, "data", "pki")
		id, err := pki.LoadIdentity(at)
		if err != nil {
			t.Error(err)
			return
		}
		n := len(acked)
		if now := len(id.CAs()); now != len(strings.Fields(shapes[n-1])[1]) && now != len(strings.Fields(shapes[min(n, 4)])[1]) {
			t.Errorf("after %v it trusts %d CAs", acked, now)
		}
		for i, s := range acked {
			if s != shapes[i] {
				t.Errorf("it went through %v, not %v", acked, shapes)
			}
		}
		if err := id.Save(at); err != nil {
			t.Error(err)
		}
		if beside, err := os.ReadFile(filepath.Join(at, "ca.crt")); err != nil || !bytes.Equal(beside, id.CAPEM()) {
			t.Errorf("the CAs' certificates beside it: %v", err)
		}
	})
}

// shape says who signed what an identity shows, client before server, and whom it trusts: A is the CA of before, B the new one.
func shape(id *pki.Identity, before *x509.Certificate) string {
	letter := func(ca *x509.Certificate) string {
		if ca.Equal(before) {
			return "A"
		}
		return "B"
	}
	var trusted []string
	for _, ca := range id.CAs() {
		trusted = append(trusted, letter(ca))
	}
	slices.Sort(trusted)
	return letter(id.CA()) + letter(id.ServerCA()) + " " + strings.Join(trusted, "")
}

// renewFrom has a founder sign itself a certificate with an address.
func renewFrom(p *Peer) error {
	key, err := os.ReadFile(p.caKeyFile())
	if err != nil {
		return err
	}
	ca, err := pki.ParseCA(p.id.CAPEM(), key)
	if err != nil {
		return err
	}
	pem, err := p.id.Request([]net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	csr, err := pki.ParseRequest(pem)
	if err != nil {
		return err
	}
	chain, err := ca.IssuePeer(csr, p.profile("here"), p.now())
	if err != nil {
		return err
	}
	if err := p.id.Replace(chain); err != nil {
		return err
	}
	return p.id.Save(p.dir.join("pki"))
}
