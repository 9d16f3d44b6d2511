package peer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"shoal/internal/pki"
)

// joinPath is where a machine asks to be let in (DESIGN.md, "entering").
const joinPath = "/shoal/v1/join"

// joinRequest asks for a certificate. Bearer (a token's id and secret), Secret or the certificate that the machine had before proves that
// it may have one.
type joinRequest struct {
	Name    string `json:"name"`
	Address string `json:"address"` // host:port of the machine's API
	CSR     []byte `json:"csr"`     // PEM
	Bearer  string `json:"bearer,omitempty"`
	Secret  []byte `json:"secret,omitempty"` // MAC of name and CSR with the cluster secret
	Rejoin  bool   `json:"rejoin,omitempty"` // the machine has the key of before, and no state any more
	Known   string `json:"known,omitempty"`  // whose certificate the machine showed; the peer that it asked says so
}

// joinAnswer is all a machine needs to become a peer.
type joinAnswer struct {
	Chain []byte            `json:"chain"` // PEM: the peer's certificate, then the CA's
	Epoch uint64            `json:"epoch"`
	Keys  [][]byte          `json:"keys"`  // of gossip, the one to send with first
	Peers map[string]string `json:"peers"` // known addresses by name
}

// credential is what a machine joins with.
type credential struct {
	caHash string
	bearer string
	secret string
	id     *pki.Identity // of before, when the machine comes back
	epoch  uint64        // at least; others that were left behind would let the machine in, too
}

// tls dials a machine of the cluster that the credential is good for.
func (c credential) tls() *tls.Config {
	if c.id != nil && c.bearer == "" {
		return pki.ReturnTLS(c.id, "http/1.1")
	}
	return pki.PinnedTLS(c.caHash, "http/1.1")
}

// key is the one that the machine has or, when it is new, will have.
func (c credential) key() (*ecdsa.PrivateKey, error) {
	if c.id != nil {
		return c.id.Key(), nil
	}
	return pki.NewKey()
}

// joinMAC proves knowledge of the cluster secret for one request, to whoever signs it in the end.
func joinMAC(secret, name string, csr []byte) ([]byte, error) {
	key, err := pki.DeriveKey(secret, "join")
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%d:%s", len(name), name)
	mac.Write(csr)
	return mac.Sum(nil), nil
}

// dialPatience bounds finding and connecting to one of several machines: the next one may answer at once.
const dialPatience = 3 * time.Second

// reporter says that something goes on failing, once in a while.
type reporter struct {
	log  *slog.Logger
	next time.Time
}

func (r *reporter) warn(msg string, args ...any) {
	if now := time.Now(); now.After(r.next) {
		r.log.Warn(msg, args...)
		r.next = now.Add(10 * time.Second)
	}
}

// refused is an answer that no other try will change.
type refused struct{ reason string }

func (e refused) Error() string { return e.reason }

// joinCluster asks the machines at addrs in turn, again and again, until one lets this machine in or refuses for good.
// Names are resolved at every try. It reports once in a while that it goes on trying.
func joinCluster(ctx context.Context, addrs []string, c credential, self hello, key *ecdsa.PrivateKey, log *slog.Logger) (joinAnswer, error) {
	req, err := newJoinRequest(self, c, key)
	if err != nil {
		return joinAnswer{}, err
	}
	wait, say := 200*time.Millisecond, reporter{log: log}
	for {
		for _, addr := range addrs {
			answer, err := askToJoin(ctx, addr, c.tls(), req)
			if err == nil && answer.Epoch < c.epoch {
				err = fmt.Errorf("it was left behind, too: its cluster's epoch is %d, not %d", answer.Epoch, c.epoch)
			}
			if err == nil {
				return answer, nil
			}
			var no refused
			if errors.As(err, &no) {
				return joinAnswer{}, fmt.Errorf("%s refuses: %w", addr, err)
			}
			if ctx.Err() != nil {
				return joinAnswer{}, ctx.Err()
			}
			say.warn("cannot join yet, trying on", "at", addr, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return joinAnswer{}, ctx.Err()
		}
		wait = min(2*wait, 3*time.Second)
	}
}

func newJoinRequest(self hello, c credential, key *ecdsa.PrivateKey) (joinRequest, error) {
	host, _, err := net.SplitHostPort(self.Address)
	if err != nil {
		return joinRequest{}, err
	}
	csr, err := pki.NewRequest(key, pki.NodePrefix+self.Name, []net.IP{net.ParseIP(host)})
	if err != nil {
		return joinRequest{}, err
	}
	req := joinRequest{Name: self.Name, Address: self.Address, CSR: csr, Bearer: c.bearer, Rejoin: c.id != nil}
	if c.secret != "" {
		req.Secret, err = joinMAC(c.secret, self.Name, csr)
	}
	return req, err
}

// askToJoin sends the request to one machine.
func askToJoin(ctx context.Context, addr string, dial *tls.Config, req joinRequest) (joinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return joinAnswer{}, err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+joinPath, bytes.NewReader(body))
	if err != nil {
		return joinAnswer{}, err
	}
	hr.Header.Set("Content-Type", "application/json")
	t := &http.Transport{
		TLSClientConfig: dial, DisableKeepAlives: true,
		DialContext: (&net.Dialer{Timeout: dialPatience}).DialContext,
	}
	resp, err := t.RoundTrip(hr)
	if err != nil {
		var alert tls.AlertError
		if strings.Contains(err.Error(), "belongs to another cluster") {
			return joinAnswer{}, refused{err.Error() + "; make a token in its cluster with: shoal token create"}
		}
		if errors.As(err, &alert) {
			return joinAnswer{}, refused{err.Error()}
		}
		return joinAnswer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return joinAnswer{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		var a joinAnswer
		return a, json.Unmarshal(b, &a)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusBadRequest:
		return joinAnswer{}, refused{strings.TrimSpace(string(b))}
	}
	return joinAnswer{}, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
}
