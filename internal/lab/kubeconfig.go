package lab

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeKubeconfig copies the admin certificate that a peer keeps in its data directory, and writes a kubeconfig that has a
// cluster and a context for every peer.
func (l *Lab) writeKubeconfig() error {
	pem := map[string]string{}
	for _, name := range []string{"ca.crt", "admin.crt", "admin.key"} {
		b, err := l.readFromAnyPeer(filepath.Join("pki", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(Dir, name), b, 0o600); err != nil {
			return err
		}
		pem[name] = base64.StdEncoding.EncodeToString(b)
	}
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Config\nclusters:\n")
	for _, p := range l.state.Peers {
		fmt.Fprintf(&b, "- name: %s\n  cluster:\n    server: %s\n    certificate-authority-data: %s\n", p.Name, p.API(), pem["ca.crt"])
	}
	fmt.Fprintf(&b, "users:\n- name: admin\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\ncontexts:\n", pem["admin.crt"], pem["admin.key"])
	for _, p := range l.state.Peers {
		fmt.Fprintf(&b, "- name: %s\n  context: {cluster: %s, user: admin}\n", p.Name, p.Name)
	}
	fmt.Fprintf(&b, "current-context: %s\n", l.state.Peers[0].Name)
	return os.WriteFile(Kubeconfig(), []byte(b.String()), 0o600)
}

// RefreshKubeconfig writes the kubeconfig anew when the peers have other certificates. It takes no lock.
func RefreshKubeconfig() error {
	peers, err := Peers()
	if err != nil {
		return err
	}
	return (&Lab{state: state{Peers: peers}}).writeKubeconfig()
}

func (l *Lab) readFromAnyPeer(name string) ([]byte, error) {
	var last error
	for _, p := range l.state.Peers {
		b, err := os.ReadFile(filepath.Join(p.DataDir(), name))
		if err == nil {
			return b, nil
		}
		last = err
	}
	return nil, last
}
