package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"shoal/internal/pki"
)

// enter makes this machine a peer of a cluster, unless it is one already: it founds a cluster or joins one (DESIGN.md, "entering").
// After it, the identity and the memory are set.
func (p *Peer) enter(ctx context.Context) error {
	if err := p.gossipPortFree(ctx); err != nil {
		return err
	}
	known, was, err := p.dir.read()
	if err != nil {
		return err
	}
	self := hello{Name: p.cfg.Name, Address: p.address(), Expect: p.cfg.BootstrapExpect}
	if was {
		if err := p.resume(known); err != nil || !known.Rejoin {
			return err
		}
		return p.rejoin(ctx, self)
	}
	switch {
	case p.cfg.BootstrapExpect > 0:
		return p.meetOthers(ctx, self)
	case len(p.cfg.Join) > 0:
		token, err := pki.ParseToken(p.cfg.Token)
		if err != nil {
			return fmt.Errorf("join %v: %w", p.cfg.Join, err)
		}
		return p.join(ctx, self, p.joinAddresses(), credential{caHash: token.CAHash, bearer: token.Bearer()})
	}
	return p.found(self)
}

// gossipPortFree looks early whether gossip will get its port, before anything is founded or a token used.
func (p *Peer) gossipPortFree(ctx context.Context) error {
	at := hostPort(p.cfg.API.Address, p.cfg.Gossip.Port)
	tcp, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err == nil {
		var udp net.PacketConn
		if udp, err = new(net.ListenConfig).ListenPacket(ctx, "udp", at); err == nil {
			err = udp.Close()
		}
		err = errors.Join(err, tcp.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: does another program use port %d? (gossip.port changes ours, the same on every machine)", err, p.cfg.Gossip.Port)
	}
	return nil
}

// resume takes up an identity that the data directory holds.
func (p *Peer) resume(known memory) error {
	id, err := pki.LoadIdentity(p.dir.join("pki"))
	if err != nil {
		return err
	}
	if known.Name != p.cfg.Name {
		return fmt.Errorf("the data directory %s is that of peer %q, and this one is called %q: give the right --name or --data-dir",
			p.dir.path, known.Name, p.cfg.Name)
	}
	if known.Superseded > known.Epoch && !known.Rejoin {
		return superseded(fmt.Errorf("the cluster was recovered (epoch %d), without this machine (epoch %d)", known.Superseded, known.Epoch))
	}
	if known.Removed {
		return p.removedFor(errRemoved)
	}
	if known.Recovering {
		return fmt.Errorf("a recovery in %s was interrupted: run it again, with: shoal recover --yes", p.dir.path)
	}
	if p.cfg.Token != "" && !known.Rejoin {
		token, err := pki.ParseToken(p.cfg.Token)
		if err == nil && !slices.ContainsFunc(id.CAs(), func(ca *x509.Certificate) bool { return token.CAHash == pki.Hash(ca) }) {
			return fmt.Errorf("the data directory %s belongs to another cluster (%s) than the token: empty the directory to join "+
				"(what only it holds is lost), or leave the token out", p.dir.path, known.ClusterID)
		}
	}
	p.id, p.memory = id, known
	return nil
}

// meetOthers waits for the machines that start together with this one, and founds or joins.
func (p *Peer) meetOthers(ctx context.Context, self hello) error {
	if p.cfg.BootstrapExpect == 1 && len(p.cfg.Join) == 0 {
		return p.found(self)
	}
	if p.cfg.ClusterSecret == "" {
		return errors.New("bootstrap_expect needs cluster_secret (or cluster_secret_file): the same on every machine")
	}
	temporary, err := temporaryTLS(self, p.now())
	if err != nil {
		return err
	}
	r := newRendezvous(self, p.cfg.ClusterSecret, p.joinAddresses(), p.log)
	p.front.set(temporary, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != helloPath {
			http.Error(w, "this peer waits for the others to start", http.StatusServiceUnavailable)
			return
		}
		serveHello(w, req, p.cfg.ClusterSecret, r.answer)
	}))
	p.log.Info("waiting for the others", "expected", self.Expect, "join", p.cfg.Join)
	v, err := r.meet(ctx)
	if err != nil {
		return err
	}
	if v.found {
		if err := p.found(self); err != nil {
			return err
		}
		// Whoever is told comes at once, and must find the cluster's certificate here.
		p.wired = func() { r.becomeMember(pki.Hash(p.id.CA())) }
		return nil
	}
	return p.join(ctx, self, []string{v.address}, credential{caHash: v.caHash, secret: p.cfg.ClusterSecret})
}

// found makes a new cluster with this machine as its only peer. The CA's key and those of Secrets stay in files until the first term has
// sealed them into the store.
func (p *Peer) found(self hello) error {
	ca, err := pki.NewCA(pki.NewClusterID(), p.now())
	if err != nil {
		return err
	}
	caKey, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	req, err := newJoinRequest(self, credential{}, key)
	if err != nil {
		return err
	}
	csr, err := pki.ParseRequest(req.CSR)
	if err != nil {
		return err
	}
	chain, err := ca.IssuePeer(csr, p.profile(self.Name), p.now())
	if err != nil {
		return err
	}
	if p.id, err = pki.NewIdentity(key, chain); err != nil {
		return err
	}
	gossipKey := make([]byte, 32)
	if _, err := rand.Read(gossipKey); err != nil {
		return err
	}
	p.memory = memory{Name: self.Name, ClusterID: p.id.ClusterID(), Keys: [][]byte{gossipKey}, Founder: true}
	p.log.Info("founded a cluster", "id", p.memory.ClusterID)
	if err := pki.WriteFile(p.caKeyFile(), caKey, 0o600); err != nil {
		return err
	}
	if ring, err := founderRing(p.dir); err != nil || ring == nil { // else it is that of what was restored
		if _, err := p.newVaultKey(); err != nil {
			return err
		}
	}
	return p.belong()
}

// belong writes down that this machine is in a cluster. The memory comes last: with it, all is there.
func (p *Peer) belong() error {
	if err := p.id.Save(p.dir.join("pki")); err != nil {
		return err
	}
	return p.dir.write(p.memory)
}

func (p *Peer) caKeyFile() string { return p.dir.join("pki", "ca.key") }

// join becomes a peer of an existing cluster.
func (p *Peer) join(ctx context.Context, self hello, addrs []string, c credential) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	p.log.Info("joining", "at", addrs)
	a, err := joinCluster(ctx, addrs, c, self, key, p.log)
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if p.id, err = pki.NewIdentity(key, a.Chain); err != nil {
		return err
	}
	p.memory = memory{Name: self.Name, ClusterID: p.id.ClusterID(), Epoch: a.Epoch, Keys: a.Keys, Peers: a.Peers}
	p.log.Info("joined", "id", p.memory.ClusterID)
	return p.belong()
}

func (p *Peer) joinAddresses() []string {
	var all []string
	for _, a := range p.cfg.Join {
		all = append(all, hostPort(a, p.cfg.API.Port))
	}
	return all
}

// address is the host:port at which others reach this peer's API.
func (p *Peer) address() string { return hostPort(p.advertise.String(), p.cfg.API.Port) }

// advertised returns the address that the operator set, or that of the interface with the default route, or the only
// one there is.
func advertised(set string) (net.IP, error) {
	if set != "" {
		if ip := net.ParseIP(set); ip != nil {
			return ip, nil
		}
		return nil, fmt.Errorf("advertise_address %q is not an IP address", set)
	}
	// Connecting a UDP socket sends nothing; it only asks the kernel for the route (192.0.2.0/24 is for documentation).
	if c, err := net.Dial("udp", "192.0.2.1:9"); err == nil {
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).IP, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP, nil
		}
	}
	return nil, errors.New("this machine has no address that others could reach: set advertise_address")
}

// temporaryTLS is a certificate of the machine's own making, for the time before it has one of the cluster's.
func temporaryTLS(self hello, now time.Time) (*tls.Config, error) {
	ca, err := pki.NewCA("", now)
	if err != nil {
		return nil, err
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	req, err := newJoinRequest(self, credential{}, key)
	if err != nil {
		return nil, err
	}
	csr, err := pki.ParseRequest(req.CSR)
	if err != nil {
		return nil, err
	}
	chain, err := ca.IssuePeer(csr, pki.PeerProfile{Name: self.Name}, now)
	if err != nil {
		return nil, err
	}
	id, err := pki.NewIdentity(key, chain)
	if err != nil {
		return nil, err
	}
	return pki.ServerTLS(id, []string{"http/1.1"}), nil
}
