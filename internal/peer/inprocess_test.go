package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/config"
	"shoal/internal/pki"
	"shoal/master"
	"shoal/node"
	"shoal/node/runtime/fake"
)

// startPeers runs n peers of one cluster in this process, each at an address of its own of the loopback interface: all of them but their
// machines, which have no pods, no rules and no names. The first one is the Master. Each has a Node.
func startPeers(t *testing.T, n int) []*Peer {
	t.Helper()
	subnet := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(250))
	apiPort, gossipPort := freePort(t), freePort(t)
	var all []*Peer
	for i := range n {
		c := config.Default()
		c.Name, c.AdvertiseAddress, c.DataDir = fmt.Sprint("peer-", i+1), fmt.Sprint(subnet, i+1), shortLived(t)
		c.API.Address, c.API.Port, c.Gossip.Port = c.AdvertiseAddress, apiPort, gossipPort
		if i > 0 {
			token, err := all[0].newToken(t.Context(), api.TokenRequest{Uses: 1, TTLSeconds: 60})
			if err != nil {
				t.Fatal(err)
			}
			c.Join, c.Token = []string{all[0].cfg.AdvertiseAddress}, token.Token
		}
		all = append(all, startPeer(t, c))
	}
	for _, p := range all {
		makeNode(t, all[0], p)
	}
	settle(t, all)
	return all
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// shortLived is a directory on a disk that costs nothing, where there is one.
func shortLived(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shoal-peer-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startPeer does what Run does, but for the machine, and returns when the peer votes and sees what every cluster has.
func startPeer(t *testing.T, c *config.Config) *Peer {
	t.Helper()
	p := New(Config{Config: c, Version: "test", Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
	}
	var err error
	p.dir, err = openDataDir(c.DataDir)
	fatal(err)
	p.advertise = net.ParseIP(c.AdvertiseAddress)
	listener, err := net.Listen("tcp", p.address())
	fatal(err)
	p.mux = newMux(listener, p.front.tls(), p.log)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	paths, ctx := errgroup.WithContext(ctx)
	t.Cleanup(func() {
		stop()
		if err := ignoreCancel(paths.Wait()); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		p.closeAudit()
		_ = p.dir.Close()
	})
	paths.Go(func() error { return p.mux.Run(ctx) })
	paths.Go(func() error { return p.serve(ctx) })
	fatal(p.enter(ctx))
	fatal(p.wireCluster())
	local, err := p.localClient()
	fatal(err)
	p.show(&machine{node: node.New(node.Config{
		Machine: node.Machine{Name: c.Name}, Client: local, Runtime: fake.New(nil), Dir: c.DataDir, Authorizer: podAuthority{p.authority}, Log: p.log,
	})})
	paths.Go(func() error { return p.gossip.Run(ctx) })
	paths.Go(func() error { return p.raft.Run(ctx) })
	paths.Go(func() error { return p.registry.Run(ctx) })
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	select {
	case <-p.raft.Ready():
	case <-waiting.Done():
		t.Fatalf("%s is not ready", c.Name)
	}
	for !p.isVoter(c.Name) {
		changed := p.raft.Changed()
		if p.isVoter(c.Name) {
			break
		}
		select {
		case <-changed:
		case <-waiting.Done():
			t.Fatalf("%s has no vote", c.Name)
		}
	}
	fatal(master.AwaitBootstrap(waiting, p.registry))
	p.waitCA(waiting)
	return p
}

// makeNode makes the Node of a peer's machine.
func makeNode(t *testing.T, leader, p *Peer) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: p.cfg.Name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := leader.registry.Create(t.Context(), api.Nodes, n, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// settle waits until all have what the Master has.
func settle(t *testing.T, all []*Peer) {
	t.Helper()
	for _, p := range all {
		if id, ok := p.raft.Leader(); !ok || id != consensus.PeerID(all[0].cfg.Name) {
			t.Fatalf("%s takes %q for the Master", p.cfg.Name, id)
		}
		if err := p.registry.WaitRevision(t.Context(), all[0].registry.Revision()); err != nil {
			t.Fatal(err)
		}
	}
}

// certificate is one of the cluster's CA for a user.
func (p *Peer) certificate(t *testing.T, user string, groups ...string) tls.Certificate {
	t.Helper()
	ca, err := openCA(p.raft, p.id)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := pki.NewRequest(key, user, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseRequest(pem)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.IssueClient(csr, user, groups, 0, p.now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// clientTLS is for clients of a peer; without certificates for those who show none.
func (p *Peer) clientTLS(certs ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(p.id.CA())
	return &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS12}
}
