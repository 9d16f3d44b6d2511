package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"shoal/node/runtime"
)

// withHeader shows the credentials that a machine fetches with, by proofs.
const withHeader = "Shoal-Pulled-With"

// proof shows one machine that the ID of a credential is known. It is of no use at another one: a machine that is asked, and was stolen, could otherwise ask
// others with it.
func proof(id, peer string) string {
	sum := sha256.Sum256([]byte(id + "\x00" + peer))
	return hex.EncodeToString(sum[:])
}

// named is what a machine says of an image that it holds.
type named struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	With      string        `json:"with"` // which of the proofs shown is of a credential that it was fetched with, or Anonymous
}

func (n named) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: n.MediaType, Digest: n.Digest, Size: n.Size}
}

func proofs(creds []runtime.Credential, peer string) string {
	var out []string
	for _, c := range creds {
		out = append(out, proof(ID(c), peer))
	}
	return strings.Join(out, ",")
}

// askNamed asks a machine what a name means there.
func (s *Sources) askNamed(ctx context.Context, peer, name string, creds []runtime.Credential) (named, error) {
	var n named
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+peer+Path+"named?name="+url.QueryEscape(name), nil)
	if err != nil {
		return n, err
	}
	r.Header.Set(withHeader, proofs(creds, peer))
	resp, err := s.cfg.Peers.RoundTrip(r)
	if err != nil {
		return n, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return n, err
	}
	if resp.StatusCode != http.StatusOK {
		return n, fmt.Errorf("%s: %s", resp.Status, b)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("answer of %s: %w", peer, err)
	}
	if err := n.Digest.Validate(); err != nil {
		return n, fmt.Errorf("answer of %s: %w", peer, err)
	}
	for _, c := range creds {
		if proof(ID(c), peer) == n.With {
			n.With = ID(c)
			return n, nil
		}
	}
	if n.With != Anonymous {
		return n, fmt.Errorf("answer of %s: with a credential that was not shown", peer)
	}
	return n, nil
}

// peerHost is a machine as a registry.
func (s *Sources) peerHost(peer string, creds []runtime.Credential) docker.RegistryHost {
	return docker.RegistryHost{
		Client: &http.Client{Transport: moving{s.cfg.Peers, progressTimeout}}, Scheme: "https", Host: peer, Path: Path + "v2", Capabilities: docker.HostCapabilityPull,
		Header: http.Header{withHeader: {proofs(creds, peer)}},
	}
}

// keepersOf are the machines that keep the turns of an image, the second if the first cannot be asked: every machine comes to the same ones.
func keepersOf(d digest.Digest, members []string) []string {
	weight := func(name string) uint64 {
		h := fnv.New64a()
		_, _ = io.WriteString(h, name+"\x00"+d.String())
		return h.Sum64()
	}
	out := slices.SortedFunc(slices.Values(members), func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), strings.Compare(a, b))
	})
	return out[:min(len(out), 2)]
}

// turnPatience is how long a machine waits for its turn before it fetches from outside by itself: whoever is fetching may be stuck.
const turnPatience = 2 * time.Minute

// turn waits for this machine's turn to fetch, and returns whom to fetch from: nobody for the registry. When the machines that keep the turns cannot be
// asked, nobody waits.
func (s *Sources) turn(ctx context.Context, name string, d digest.Digest) (from []string, done func(ok bool)) {
	until := time.Now().Add(turnPatience)
	for _, keeper := range keepersOf(d, s.cfg.Peers.Members()) {
		for range 2 { // the first connection may be one to the keeper's earlier life
			one, done, err := s.turnOf(ctx, keeper, d, until)
			switch {
			case err == nil && one == "":
				return nil, done
			case err == nil:
				return []string{one}, done
			}
			s.log.Info("no turn to be had to fetch an image", "image", name, "keeper", keeper, "err", err)
			if ctx.Err() != nil || !time.Now().Before(until) {
				return nil, func(bool) {}
			}
		}
	}
	return nil, func(bool) {}
}

func (s *Sources) turnOf(ctx context.Context, keeper string, d digest.Digest, until time.Time) (string, func(bool), error) {
	if keeper != s.cfg.Peers.Self() {
		return s.askTurn(ctx, keeper, d, until)
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return s.takeTurn(ctx, d, keeper)
}

func (s *Sources) takeTurn(ctx context.Context, d digest.Digest, peer string) (string, func(bool), error) {
	return s.turns.take(ctx, d, peer, func() []string {
		if s.cfg.Holders == nil {
			return nil
		}
		return s.cfg.Holders(ctx, d.String())
	})
}

// How a fetch ended, as the body of the request that took the turn. A body that ends otherwise means that it failed.
const fetched = "done"

// turnAnswer is whose turn it is to give.
type turnAnswer struct {
	From string `json:"from"` // a machine; empty for the registry
}

// askTurn takes a turn that another machine keeps, if it comes in time. The turn lasts as long as the request: if this machine dies, the turn ends.
func (s *Sources) askTurn(ctx context.Context, keeper string, d digest.Digest, until time.Time) (string, func(bool), error) {
	body, end := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(time.Until(until), cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+keeper+Path+"turn?digest="+url.QueryEscape(d.String()), body)
	if err != nil {
		cancel()
		return "", nil, err
	}
	resp, err := s.cfg.Peers.RoundTrip(r)
	if err != nil {
		cancel()
		return "", nil, err
	}
	var a turnAnswer
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&a)
	}
	if err != nil || !late.Stop() {
		cancel()
		_ = resp.Body.Close()
		return "", nil, errors.Join(err, ctx.Err())
	}
	return a.From, func(ok bool) {
		defer cancel()
		defer resp.Body.Close()
		if ok {
			_, _ = io.WriteString(end, fetched)
		}
		_ = end.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // until it has been heard
	}, nil
}
