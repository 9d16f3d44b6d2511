package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"shoal/node/runtime"
)

// outside is a registry of its own, with or without passwords, that counts what it serves.
type outside struct {
	*httptest.Server
	user  atomic.Pointer[string] // USERNAME:PASSWORD that is wanted; nil lets everyone in
	mu    sync.Mutex
	blobs map[string]int
	seen  []string // users who asked
}

func newOutside(t *testing.T) *outside {
	o := &outside{blobs: map[string]int{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		o.mu.Lock()
		if user != "" {
			o.seen = append(o.seen, user)
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
			o.blobs[r.URL.Path]++
		}
		o.mu.Unlock()
		if want := o.user.Load(); want != nil && user+":"+password != *want {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *outside) host() string { return strings.TrimPrefix(o.URL, "http://") }

func (o *outside) push(t *testing.T, repo string) string {
	t.Helper()
	img, err := random.Image(64<<10, 3)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(o.host() + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

func (o *outside) want(user, password string) { s := user + ":" + password; o.user.Store(&s) }

// host is a machine: what it stores, and its server.
type host struct {
	name    string
	t       *testing.T
	net     *network
	sources *Sources

	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	images  map[string]*Found
	spoiled bool // its content is not what it says
}

// network is the machines that there are.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[string]*host
	via   map[string]*httptest.Server
}

func newNetwork(t *testing.T, n int, cfg Config) (*network, []*host) {
	nw := &network{t: t, hosts: map[string]*host{}, via: map[string]*httptest.Server{}}
	var all []*host
	for i := range n {
		h := &host{name: fmt.Sprintf("peer-%d", i+1), t: t, net: nw, blobs: map[digest.Digest][]byte{}, images: map[string]*Found{}}
		c := cfg
		c.Peers, c.Holders = h, nw.holders
		h.sources = New(c)
		srv := httptest.NewUnstartedServer(h.sources.Handler(h, func(r *http.Request) string { return r.Header.Get("Test-Peer") }))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		t.Cleanup(srv.Close)
		nw.hosts[h.name], nw.via[h.name] = h, srv
		all = append(all, h)
	}
	return nw, all
}

func (n *network) holders(_ context.Context, image string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for name, h := range n.hosts {
		h.mu.Lock()
		for ref, f := range h.images {
			if ref == image || f.Target.Digest.String() == image {
				out = append(out, name)
			}
		}
		h.mu.Unlock()
	}
	slices.Sort(out)
	return out
}

// Self, Alive and RoundTrip make a host the Peers of its own sources.
func (h *host) Self() string { return h.name }

func (h *host) Members() []string { return h.Alive() }

func (h *host) Alive() []string {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var out []string
	for name := range h.net.hosts {
		out = append(out, name)
	}
	return out
}

func (h *host) RoundTrip(r *http.Request) (*http.Response, error) {
	h.net.mu.Lock()
	srv := h.net.via[r.URL.Host]
	_, there := h.net.hosts[r.URL.Host]
	h.net.mu.Unlock()
	if srv == nil || !there {
		return nil, errors.New("no such machine")
	}
	out := r.Clone(r.Context())
	out.URL.Host = strings.TrimPrefix(srv.URL, "https://")
	out.Header.Set("Test-Peer", h.name)
	return srv.Client().Transport.RoundTrip(out)
}

func (n *network) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, name)
}

// Named implements Store.
func (h *host) Named(_ context.Context, name string) (ocispec.Descriptor, []string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.images[name]
	if f == nil {
		return ocispec.Descriptor{}, nil, errdefs.ErrNotFound
	}
	return f.Target, []string{f.With}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

// Open implements Store.
func (h *host) Open(_ context.Context, d digest.Digest) (Content, []string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.blobs[d]
	if !ok {
		return nil, nil, errdefs.ErrNotFound
	}
	if h.spoiled {
		b = bytes.Repeat([]byte("x"), len(b))
	}
	var with []string
	for _, f := range h.images {
		if f.Target.Digest == d {
			with = append(with, f.With)
		}
	}
	return blob{bytes.NewReader(b)}, with, nil
}

// pull does what a runtime does: it has everything fetched, and checks it.
func (h *host) pull(image string, creds ...runtime.Credential) error {
	ctx := h.t.Context()
	found, err := h.sources.Find(ctx, image, creds)
	if err != nil {
		return err
	}
	err = found.Fetch(ctx, func(from remotes.Resolver) error {
		resolved, target, err := from.Resolve(ctx, image)
		if err != nil {
			return err
		}
		fetcher, err := from.Fetcher(ctx, resolved)
		if err != nil {
			return err
		}
		return h.fetch(ctx, fetcher, target)
	})
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.images[image] = found
	}
	return err
}

func (h *host) fetch(ctx context.Context, from remotes.Fetcher, d ocispec.Descriptor) error {
	rc, err := from.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return fmt.Errorf("%s instead of %s", got, d.Digest)
	}
	if strings.Contains(d.MediaType, "manifest") {
		var m ocispec.Manifest
		if err := json.Unmarshal(b, &m); err != nil {
			return err
		}
		for _, part := range append(m.Layers, m.Config) {
			if err := h.fetch(ctx, from, part); err != nil {
				return err
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blobs[d.Digest] = b
	return nil
}

func (o *outside) served() (total int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.blobs {
		total += n
	}
	return total
}

const blobsOfAnImage = 4 // three layers and a config

func TestOnePullFromOutsideIsEnough(t *testing.T) {
	o := newOutside(t)
	image := o.push(t, "team/app:v1")
	_, hosts := newNetwork(t, 9, Config{})
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			if err := h.pull(image); err != nil {
				t.Errorf("%s: %v", h.name, err)
			}
		})
	}
	all.Wait()
	if n := o.served(); n != blobsOfAnImage {
		t.Errorf("the registry served %d blobs to 9 machines, %d would do", n, blobsOfAnImage)
	}
}

func TestARegistryThatIsAwayStopsNothing(t *testing.T) {
	o := newOutside(t)
	image := o.push(t, "team/app:v1")
	nw, hosts := newNetwork(t, 3, Config{})
	if err := hosts[0].pull(image); err != nil {
		t.Fatal(err)
	}
	o.Close()
	if err := hosts[1].pull(image); err != nil {
		t.Errorf("from the machine that has it: %v", err)
	}
	nw.remove("peer-1")
	if err := hosts[2].pull(image); err != nil {
		t.Errorf("from the machine that had it from the first: %v", err)
	}
	if err := hosts[2].pull(strings.Replace(image, "v1", "v2", 1)); err == nil {
		t.Error("an image that nobody has was had")
	}
}

func TestWhatWasPulledWithAPasswordIsForThoseWhoHaveIt(t *testing.T) {
	o := newOutside(t)
	image := o.push(t, "team/app:v1")
	o.want("ann", "right")
	ann := runtime.Credential{Registry: o.host(), Username: "ann", Password: "right"}
	bob := runtime.Credential{Registry: o.host(), Username: "bob", Password: "wrong"}
	nw, hosts := newNetwork(t, 3, Config{})
	for _, creds := range [][]runtime.Credential{nil, {bob}, {{Registry: "elsewhere.example", Username: "ann", Password: "right"}}} {
		if err := hosts[0].pull(image, creds...); err == nil {
			t.Errorf("had with %+v", creds)
		}
	}
	if err := hosts[0].pull(image, bob, ann); err != nil {
		t.Fatalf("the second fits: %v", err)
	}
	before := o.served()
	if err := hosts[1].pull(image, ann); err != nil || o.served() != before {
		t.Errorf("%v; %d more blobs from outside", err, o.served()-before)
	}
	o.Close()
	for _, creds := range [][]runtime.Credential{nil, {bob}} {
		if err := hosts[2].pull(image, creds...); err == nil {
			t.Errorf("without its registry, had with %+v", creds)
		}
	}
	if err := hosts[2].pull(image, bob, ann); err != nil {
		t.Errorf("without its registry: %v", err)
	}
	// A machine that was stolen knows digests of manifests, from Nodes, and no password.
	_, target := nw, hosts[0].images[image].Target
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://peer-1"+Path+"v2/any/manifests/"+target.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hosts[1].RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a manifest without a password: %s", resp.Status)
	}
	// It may have been asked itself by who has one; what it was shown is of no use elsewhere.
	for asked, want := range map[string]int{"peer-1": http.StatusOK, "peer-2": http.StatusNotFound} {
		r.Header.Set(withHeader, proofs([]runtime.Credential{ann}, asked))
		resp, err := hosts[1].RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with what was shown to %s: %s", asked, resp.Status)
		}
	}
}

func TestContentThatIsNotWhatItSaysIsFetchedFromOutside(t *testing.T) {
	o := newOutside(t)
	image := o.push(t, "team/app:v1")
	_, hosts := newNetwork(t, 2, Config{})
	if err := hosts[0].pull(image); err != nil {
		t.Fatal(err)
	}
	hosts[0].spoiled = true
	if err := hosts[1].pull(image); err != nil {
		t.Error(err)
	}
}

func TestMirrorsAreTriedFirst(t *testing.T) {
	mirror, o := newOutside(t), newOutside(t)
	image := o.push(t, "team/app:v1")
	mirrored := mirror.push(t, "team/app:v1")
	if image == mirrored {
		t.Fatal("one registry")
	}
	ann := runtime.Credential{Registry: o.host(), Username: "ann", Password: "right"}
	_, hosts := newNetwork(t, 1, Config{Mirrors: map[string][]string{o.host(): {mirror.URL}}})
	if err := hosts[0].pull(image, ann); err != nil {
		t.Fatal(err)
	}
	if o.served() != 0 || mirror.served() != blobsOfAnImage {
		t.Errorf("%d blobs from the registry, %d from its mirror", o.served(), mirror.served())
	}
	if len(mirror.seen) > 0 {
		t.Errorf("the mirror was told of users %q", mirror.seen)
	}
	mirror.Close()
	hosts[0].blobs = map[digest.Digest][]byte{}
	if err := hosts[0].pull(image, ann); err != nil || o.served() != blobsOfAnImage {
		t.Errorf("without the mirror: %v; %d blobs", err, o.served())
	}
}
