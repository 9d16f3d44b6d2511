// Package images knows where images come from: registries with their mirrors and credentials, and the other machines, so that one
// fetch from outside is enough for the cluster and a registry that is away stops nothing. It stores nothing: the runtime does.
//
// Two things are told apart. Which content a name means, and whether a pod may have it, is the registry's to say, each time; only
// when it cannot be asked do other machines say it, for who shows the credentials that they fetched the image with. The content is then taken from whoever
// has it, by digest, and checked by the runtime.
package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"shoal/node/runtime"
)

// Peers are the machines of the cluster. Requests go to URLs whose host is a machine's name. It is safe for concurrent use.
type Peers interface {
	http.RoundTripper
	Self() string
	// Members returns the machines of the cluster that are not known to be gone, this one among them.
	Members() []string
	// Alive returns those that answer.
	Alive() []string
}

// Config is complete when passed to New; its zero value asks registries over TLS and nobody else.
type Config struct {
	PlainHTTP []string            // registries, HOST or HOST:PORT, that are spoken to without TLS; loopback always is
	Mirrors   map[string][]string // a registry's host to the URLs tried before it
	Peers     Peers               // nil: there are no others
	// Holders returns the machines that say they hold an image, by its name or its digest; nil when nobody is known to.
	Holders func(ctx context.Context, image string) []string
	Log     *slog.Logger
}

// Sources finds and fetches images. It is safe for concurrent use.
type Sources struct {
	cfg   Config
	log   *slog.Logger
	web   *http.Client
	turns *turns
}

// New returns sources that have asked nobody yet.
func New(c Config) *Sources {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sources{cfg: c, log: c.Log.With("component", "images"), web: webClient()}
	s.turns = newTurns(func(name string) bool { return c.Peers != nil && slices.Contains(c.Peers.Alive(), name) })
	return s
}

// Found is an image that its registry, or a machine that stands in for it, has named.
type Found struct {
	Target ocispec.Descriptor
	With   string // what it was got with: Anonymous, or the ID of a credential

	s     *Sources
	name  string
	creds []runtime.Credential
	from  []string // machines that have it, when no registry answered
}

// Find asks the registry, and its mirrors before it, what a whole name means. Of the credentials those that fit are tried, the most particular
// first. When nobody there can be asked, machines that hold the image answer.
func (s *Sources) Find(ctx context.Context, name string, creds []runtime.Credential) (*Found, error) {
	fitting := For(creds, name)
	tries := fitting
	if len(tries) == 0 {
		tries = []runtime.Credential{{}}
	}
	var refused error
	for _, c := range tries {
		_, target, err := s.registry(c, nil).Resolve(ctx, name)
		if err == nil {
			return &Found{Target: target, With: ID(c), s: s, name: name, creds: []runtime.Credential{c}}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if away(err) {
			return s.findNearby(ctx, name, fitting, err)
		}
		if refused == nil {
			refused = err
		}
	}
	return nil, refused
}

// findNearby asks the machines that say they hold the image. outage is why the registry was not.
func (s *Sources) findNearby(ctx context.Context, name string, creds []runtime.Credential, outage error) (*Found, error) {
	for _, peer := range s.holders(ctx, name) {
		said, err := s.askNamed(ctx, peer, name, creds)
		if err != nil {
			s.log.Debug("a machine does not stand in for the registry", "image", name, "peer", peer, "err", err)
			continue
		}
		s.log.Info("the registry cannot be asked, another machine has the image", "image", name, "peer", peer, "err", outage)
		return &Found{Target: said.descriptor(), With: said.With, s: s, name: name, creds: creds, from: []string{peer}}, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrAway, outage)
}

// holders returns the other machines that hold an image, in no particular order.
func (s *Sources) holders(ctx context.Context, image string) []string {
	if s.cfg.Peers == nil || s.cfg.Holders == nil {
		return nil
	}
	alive := s.cfg.Peers.Alive()
	return slices.DeleteFunc(s.cfg.Holders(ctx, image), func(name string) bool {
		return name == s.cfg.Peers.Self() || !slices.Contains(alive, name)
	})
}

// Fetch calls pull with a resolver that answers with what was found and fetches it from where it is nearest. While others fetch the same image, it
// waits for its turn: one fetches from outside, the others from those who have it. When a machine's content is no good, pull is called once more with
// the registry alone.
func (f *Found) Fetch(ctx context.Context, pull func(remotes.Resolver) error) error {
	from, done := f.from, func(bool) {}
	if len(from) == 0 && f.s.cfg.Peers != nil {
		from, done = f.s.turn(ctx, f.name, f.Target.Digest)
	}
	err := pull(f.resolver(from))
	if err != nil && len(from) > 0 && len(f.from) == 0 && ctx.Err() == nil {
		f.s.log.Warn("an image could not be had from another machine", "image", f.name, "peers", from, "err", err)
		err = pull(f.resolver(nil))
	}
	done(err == nil)
	return err
}

func (f *Found) resolver(from []string) remotes.Resolver {
	var c runtime.Credential
	if len(f.creds) > 0 {
		c = f.creds[0]
	}
	var near []docker.RegistryHost
	for _, peer := range from {
		near = append(near, f.s.peerHost(peer, f.creds))
	}
	return found{f.s.registry(c, near), f.name, f.Target}
}

// found is a resolver that knows the answer already.
type found struct {
	remotes.Resolver
	name   string
	target ocispec.Descriptor
}

func (f found) Resolve(context.Context, string) (string, ocispec.Descriptor, error) {
	return f.name, f.target, nil
}

// ErrAway is part of the error when neither the registry could be asked nor a machine that holds the image.
var ErrAway = errors.New("the registry cannot be asked, and no other machine stands in for it")

// errNotHere is what a machine says of an image that it does not have, or does not show to who asks.
var errNotHere = errors.New("no such image, or not for these credentials")
