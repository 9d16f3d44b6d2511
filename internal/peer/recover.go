package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/config"
	"shoal/internal/pki"
)

// Recovery says what the disk of a peer that does not run holds of its cluster, and what recovering makes of it.
type Recovery struct {
	Peer      string    `json:"peer"`
	ClusterID string    `json:"clusterID"`
	Epoch     uint64    `json:"epoch"`     // the one that ends, and when done the one that begins
	Revision  uint64    `json:"revision"`  // the newest in this peer's log: what is kept
	Committed uint64    `json:"committed"` // up to here the peer knew that a majority had it
	Keys      int       `json:"keys"`      // objects and records that are kept
	Written   time.Time `json:"written"`   // when the newest was written; zero when unknown
	Voters    []string  `json:"voters"`
	Replicas  []string  `json:"replicas"`
	NewCA     bool      `json:"newCA"`     // this peer has no copy of the CA's key
	Secrets   int       `json:"secrets"`   // that are lost, as this peer has no copy of their keys
	Answering []string  `json:"answering"` // voters whose machines answer now
	Done      bool      `json:"done"`
}

// Lost are the members that the recovered cluster begins without.
func (r *Recovery) Lost() []string {
	all := slices.Concat(r.Voters, r.Replicas)
	return slices.DeleteFunc(all, func(name string) bool { return name == r.Peer })
}

// quorum reports whether a majority of the voters can be had without recovering: this peer, if it votes, and those that answer.
func (r *Recovery) quorum() bool {
	n := len(r.Answering)
	if slices.Contains(r.Voters, r.Peer) {
		n++
	}
	return n > len(r.Voters)/2
}

// ErrNotLost means that a majority of the voters answers: their cluster needs no recovery.
var ErrNotLost = errors.New("a majority of the voters' machines answers")

// Recover turns the peer of c, which must not run, into a cluster of one that has everything the peer's disk holds. Without do it only
// says what that is. When a majority of the voters still answers, it refuses with ErrNotLost unless forced. It may be interrupted at any
// moment and then has to be run again: the peer does not start before.
func Recover(ctx context.Context, c *config.Config, do, force bool, log *slog.Logger) (r Recovery, err error) {
	dir, err := openDataDir(c.DataDir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	known, was, err := dir.read()
	if err != nil {
		return r, err
	}
	if !was {
		return r, fmt.Errorf("%s holds no peer: run this on a machine that was in the cluster, with its --data-dir", c.DataDir)
	}
	id, err := pki.LoadIdentity(dir.join("pki"))
	if err != nil {
		return r, err
	}
	s, err := consensus.OpenSalvage(consensus.Config{ID: peerID(known.Name), Dir: dir.join("raft"), Log: log})
	if err != nil {
		return r, fmt.Errorf("read %s: %w", dir.join("raft"), err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r = Recovery{
		Peer: known.Name, ClusterID: known.ClusterID, Epoch: known.Epoch, Revision: uint64(s.Store.Rev()), Committed: uint64(s.Committed),
		Keys: s.Store.Len(), Written: s.Written, Voters: names(s.Voters), Replicas: names(s.Replicas),
	}
	ca, err := salvageCA(dir, s.Store, id)
	if err != nil {
		return r, err
	}
	r.NewCA = ca == nil
	lost, err := lostSecrets(dir, s.Store, id)
	if err != nil {
		return r, err
	}
	r.Secrets = len(lost)
	known.Peers = only(known.Peers, r.Voters)
	r.Answering = answering(ctx, known.Peers)
	if !do {
		return r, nil
	}
	if r.quorum() && !force {
		return r, ErrNotLost
	}
	p := &Peer{cfg: c, dir: dir, id: id, memory: known, now: time.Now}
	if err := p.recover(s, ca, lost); err != nil {
		return r, err
	}
	r.Done, r.Epoch = true, p.memory.Epoch
	return r, nil
}

// recover does it, in an order in which nobody ever sees half of it: first the peer cannot start any more, and last it can again.
func (p *Peer) recover(s *consensus.Salvage, ca *pki.CA, lost []store.Key) error {
	p.memory.Recovering, p.memory.Rejoin = true, false
	// The operator's last word counts, also on a machine that another recovery left behind.
	p.memory.Epoch = nextEpoch(max(p.memory.Epoch, p.memory.Superseded), p.now())
	p.memory.Peers = nil // they are of another epoch now
	if err := p.dir.write(p.memory); err != nil {
		return err
	}
	ops, err := p.forgetSecrets(s.Store, lost)
	if err != nil {
		return err
	}
	if ca == nil {
		if ca, err = p.replaceCA(); err != nil {
			return err
		}
		for _, kv := range p.sealed(s.Store) {
			ops = append(ops, store.Op{Key: kv.Key, Delete: true}) // copies of the old one's key
		}
		ops = append(ops, store.Op{Key: caRotationKey, Delete: true}) // it was about others
	}
	var ips []net.IP
	if ip, err := advertised(p.cfg.AdvertiseAddress); err == nil {
		ips = append(ips, ip)
	} // else the first renewal names it
	csr, err := p.id.Request(ips)
	if err != nil {
		return err
	}
	req, err := pki.ParseRequest(csr)
	if err != nil {
		return err
	}
	chain, err := ca.IssuePeer(req, p.profile(p.memory.Name), p.now())
	if err != nil {
		return err
	}
	id, err := pki.NewIdentity(p.id.Key(), chain)
	if err != nil {
		return err
	}
	if err := id.Save(p.dir.join("pki")); err != nil {
		return err
	}
	if err := s.Alone(ops); err != nil {
		return err
	}
	p.memory.Recovering = false
	return p.dir.write(p.memory)
}

// nextEpoch is the time, so that two machines which are recovered apart from one another do not take each other for one cluster.
func nextEpoch(epoch uint64, now time.Time) uint64 {
	return max(epoch+1, uint64(max(0, now.Unix())))
}

// replaceCA makes a new CA for the cluster. Its key stays in a file until the first term has sealed it into the store.
func (p *Peer) replaceCA() (*pki.CA, error) {
	ca, err := pki.NewCA(p.memory.ClusterID, p.now())
	if err != nil {
		return nil, err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	if err := p.forgetAdmin(); err != nil {
		return nil, err
	}
	return ca, pki.WriteFile(p.caKeyFile(), key, 0o600)
}

func (p *Peer) sealed(s *store.Store) []store.KV {
	page, err := s.List(sealPrefix, "", 0, 0)
	if err != nil {
		panic(err) // the newest state can always be read
	}
	return page.KVs
}

// salvageCA returns the cluster's CA if this peer has its key, else nil. A key that does not fit is one of an interrupted recovery, or
// sealed to an earlier life of this machine.
func salvageCA(dir *dataDir, s *store.Store, id *pki.Identity) (*pki.CA, error) {
	pem, err := os.ReadFile(dir.join("pki", "ca.key"))
	if err == nil {
		if ca, err := pki.ParseCA(id.CAPEM(), pem); err == nil {
			return ca, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	kv, ok, err := s.Get(sealPrefix+store.Key(id.Peer()), 0)
	if err != nil || !ok {
		return nil, err
	}
	if pem, err = pki.Open(id.Key(), caPurpose, kv.Value); err != nil {
		return nil, nil
	}
	ca, err := pki.ParseCA(id.CAPEM(), pem)
	if err != nil {
		return nil, nil
	}
	return ca, nil
}

func names(ids []consensus.PeerID) []string {
	all := []string{}
	for _, id := range ids {
		all = append(all, string(id))
	}
	return all
}

// only returns the addresses of the named peers.
func only(addrs map[string]string, names []string) map[string]string {
	some := map[string]string{}
	for _, name := range names {
		if a, ok := addrs[name]; ok {
			some[name] = a
		}
	}
	return some
}
