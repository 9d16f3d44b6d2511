package images

import (
	"context"
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

// withHeader names the credentials that a machine fetches with, by their IDs.
const withHeader = "Shoal-Pulled-With"

// named is what a machine says of an image that it holds.
type named struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	With      string        `json:"with"` // which of the credentials shown it was fetched with, or Anonymous
}

func (n named) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: n.MediaType, Digest: n.Digest, Size: n.Size}
}

func ids(creds []runtime.Credential) string {
	var out []string
	for _, c := range creds {
		out = append(out, ID(c))
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
	r.Header.Set(withHeader, ids(creds))
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
	return n, nil
}

// peerHost is a machine as a registry.
func (s *Sources) peerHost(peer string, creds []runtime.Credential) docker.RegistryHost {
	return docker.RegistryHost{
		Client: &http.Client{Transport: moving{s.cfg.Peers, progressTimeout}}, Scheme: "https", Host: peer, Path: Path + "v2", Capabilities: docker.HostCapabilityPull,
		Header: http.Header{withHeader: {ids(creds)}},
	}
}

// keeperOf is the machine that keeps the turns of an image: every machine comes to the same one, as long as they see the same ones alive.
func keeperOf(d digest.Digest, alive []string) string {
	best, most := "", uint64(0)
	for _, name := range slices.Sorted(slices.Values(alive)) {
		h := fnv.New64a()
		_, _ = io.WriteString(h, name+"\x00"+d.String())
		if sum := h.Sum64(); best == "" || sum > most {
			best, most = name, sum
		}
	}
	return best
}

// turnPatience is how long a machine waits for its turn before it fetches from outside by itself: whoever is fetching may be stuck.
const turnPatience = 2 * time.Minute

// turn waits for this machine's turn to fetch, and returns whom to fetch from: nobody for the registry. When the machine that keeps the turns cannot be
// asked, nobody waits.
func (s *Sources) turn(ctx context.Context, name string, d digest.Digest) (from []string, done func(ok bool)) {
	free := func(bool) {}
	keeper := keeperOf(d, s.cfg.Peers.Alive())
	if keeper == "" {
		return nil, free
	}
	one, done, err := "", free, error(nil)
	if keeper == s.cfg.Peers.Self() {
		bounded, cancel := context.WithTimeout(ctx, turnPatience)
		one, done, err = s.takeTurn(bounded, d, keeper)
		cancel()
	} else {
		one, done, err = s.askTurn(ctx, keeper, d)
	}
	if err != nil {
		s.log.Debug("no turn to be had", "image", name, "keeper", keeper, "err", err)
		return nil, free
	}
	if one == "" {
		return nil, done
	}
	return []string{one}, done
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

// askTurn takes a turn that another machine keeps. The turn lasts as long as the request: if this machine dies, the turn ends.
func (s *Sources) askTurn(ctx context.Context, keeper string, d digest.Digest) (string, func(bool), error) {
	body, end := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(turnPatience, cancel)
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
