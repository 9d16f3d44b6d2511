// Package etcd runs etcd beside Shoal, to compare them. It speaks the few messages of etcd's protocol that this takes itself, so that
// nothing depends on etcd's client.
package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Member is one process.
type Member struct {
	Addr string
	Pid  int
	cmd  *exec.Cmd
	log  *os.File
}

// Cluster is some members and what it takes to talk to them.
type Cluster struct {
	Members []*Member
	tls     *tls.Config
}

// Start runs n members of bin on loopback, with TLS to clients and among themselves, and their data in dir. It returns when each of them
// answers; Stop ends them.
func Start(ctx context.Context, bin, dir string, n int) (*Cluster, error) {
	c := &Cluster{}
	cert, key, err := c.certify(dir)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=https://%s", i, ports[2*i+1]))
	}
	for i := range n {
		m := &Member{Addr: ports[2*i]}
		client, peer := "https://"+ports[2*i], "https://"+ports[2*i+1]
		m.cmd = exec.Command(bin, "--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--quota-backend-bytes", "4294967296",
			"--cert-file", cert, "--key-file", key, "--trusted-ca-file", cert, "--client-cert-auth",
			"--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", cert, "--peer-client-cert-auth")
		if m.log, err = os.Create(filepath.Join(dir, fmt.Sprintf("m%d.log", i))); err != nil {
			c.Stop()
			return nil, err
		}
		m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
		if err := m.cmd.Start(); err != nil {
			c.Stop()
			return nil, err
		}
		m.Pid = m.cmd.Process.Pid
		c.Members = append(c.Members, m)
	}
	for _, m := range c.Members {
		if err := c.await(ctx, m); err != nil {
			c.Stop()
			return nil, fmt.Errorf("etcd at %s: %w", m.Addr, err)
		}
	}
	return c, nil
}

// Stop ends the members at once.
func (c *Cluster) Stop() {
	for _, m := range c.Members {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait() // killed
		_ = m.log.Close()
	}
}

// await asks a member until it knows a leader.
func (c *Cluster) await(ctx context.Context, m *Member) error {
	conn, err := c.Dial(m)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		_, leader, err := conn.status(ctx)
		switch {
		case err == nil && leader != 0:
			return nil
		case ctx.Err() != nil:
			return err
		}
		select { // it cannot be watched before it answers
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Followers returns the members that do not lead.
func (c *Cluster) Followers(ctx context.Context) ([]*Member, error) {
	var all []*Member
	for _, m := range c.Members {
		conn, err := c.Dial(m)
		if err != nil {
			return nil, err
		}
		self, leader, err := conn.status(ctx)
		conn.Close()
		if err != nil {
			return nil, err
		}
		if self != leader {
			all = append(all, m)
		}
	}
	return all, nil
}

// certify writes one certificate for everybody into dir.
func (c *Cluster) certify(dir string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return "", "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	c.tls = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, certPEM, 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, keyPEM, 0o600)
}

// freePorts returns addresses on loopback that nobody listened at a moment ago.
func freePorts(n int) ([]string, error) {
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all, nil
}
