package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"shoal/internal/api"
)

// Status is the lab as "lab status" shows it.
type Status struct {
	Peers []PeerStatus `json:"peers"`
}

// PeerStatus is one machine: what the lab knows of it and what the cluster says.
type PeerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	API     string `json:"api"`
	Role    string `json:"role"`  // master, voter, replica or client; empty when nobody says
	State   string `json:"state"` // running, stopped (only the peer), frozen, halted (the machine) or off
}

// Kubeconfig is the path of the admin kubeconfig that names every peer.
func Kubeconfig() string { return filepath.Join(Dir, "kubeconfig") }

// Look returns the state of every machine. It takes no lock and works while peers are down.
func Look(ctx context.Context) (Status, error) {
	peers, err := Peers()
	if err != nil {
		return Status{}, err
	}
	roles := map[string]string{}
	for _, p := range peers {
		if list, err := ask(ctx, p); err == nil {
			for _, s := range list.Peers {
				roles[s.Name] = s.Role
			}
			if list.Quorum {
				break
			}
		}
	}
	var out Status
	for _, p := range peers {
		out.Peers = append(out.Peers, PeerStatus{Name: p.Name, Address: p.Address, API: p.API(), Role: roles[p.Name], State: p.condition()})
	}
	return out, nil
}

func (p Peer) condition() string {
	switch {
	case !p.Init.alive():
		return "off"
	case p.Halted:
		return "halted"
	case !p.Shoal.alive():
		return "stopped"
	case p.Frozen:
		return "frozen"
	}
	return "running"
}

// ask gets one peer's view of the cluster with the lab's admin certificate.
func ask(ctx context.Context, p Peer) (api.PeerList, error) {
	var list api.PeerList
	if p.condition() != "running" {
		return list, fmt.Errorf("%s is %s", p.Name, p.condition())
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(Dir, "admin.crt"), filepath.Join(Dir, "admin.key"))
	if err != nil {
		return list, err
	}
	ca, err := os.ReadFile(filepath.Join(Dir, "ca.crt"))
	if err != nil {
		return list, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.API()+"/shoal/v1/peers", nil)
	if err != nil {
		return list, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return list, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return list, fmt.Errorf("%s answers %s", p.Name, resp.Status)
	}
	return list, json.NewDecoder(resp.Body).Decode(&list)
}
