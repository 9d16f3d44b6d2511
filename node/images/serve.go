package images

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Path is where the handler is mounted.
const Path = "/peer/images/"

// Store is what a machine holds. *containerd.Runtime is one.
type Store interface {
	// Named returns what a whole name means here and what the image may be had with: nothing when everyone may have it. It fails when there is no such image.
	Named(ctx context.Context, name string) (target ocispec.Descriptor, with []string, err error)
	// Open opens content; the caller closes it. What describes an image (a manifest, an index) has the same with as the image; of other content it is nil.
	Open(ctx context.Context, d digest.Digest) (content Content, with []string, err error)
}

// Content is opened content.
type Content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// May reports whether an image that may be had with some credentials may be had with one of these, all by their IDs. No credentials mean that everyone may.
func May(with, have []string) bool {
	return len(with) == 0 || slices.Contains(with, Anonymous) || slices.ContainsFunc(have, func(id string) bool { return id != "" && slices.Contains(with, id) })
}

// shown returns which of the proofs in a request, all of them for this machine, lets whoever asks have an image.
func (s *Sources) shown(r *http.Request, with []string) (which string, ok bool) {
	if May(with, nil) {
		return Anonymous, true
	}
	for p := range strings.SplitSeq(r.Header.Get(withHeader), ",") {
		if slices.ContainsFunc(with, func(id string) bool { return proof(id, s.cfg.Peers.Self()) == p }) {
			return p, true
		}
	}
	return "", false
}

// Handler serves what store holds to other machines, and keeps turns. It needs Config.Peers. peer names the machine that asks; the caller has authenticated it.
func (s *Sources) Handler(store Store, peer func(*http.Request) string) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+Path+"named", func(w http.ResponseWriter, r *http.Request) { s.serveNamed(w, r, store) })
	m.HandleFunc("GET "+Path+"v2/", func(w http.ResponseWriter, r *http.Request) { s.serveContent(w, r, store) })
	m.HandleFunc("POST "+Path+"turn", func(w http.ResponseWriter, r *http.Request) { s.serveTurn(w, r, peer(r)) })
	return m
}

func (s *Sources) serveNamed(w http.ResponseWriter, r *http.Request, store Store) {
	target, with, err := store.Named(r.Context(), r.URL.Query().Get("name"))
	which, ok := s.shown(r, with)
	if err != nil || !ok {
		http.Error(w, errNotHere.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(named{target.MediaType, target.Digest, target.Size, which})
}

// serveContent answers v2/REPOSITORY/{blobs,manifests}/DIGEST, whatever the repository.
func (s *Sources) serveContent(w http.ResponseWriter, r *http.Request, store Store) {
	d, err := digest.Parse(path.Base(r.URL.Path))
	if err != nil {
		http.Error(w, "ask for content by its digest", http.StatusBadRequest)
		return
	}
	content, with, err := store.Open(r.Context(), d)
	if err != nil {
		http.Error(w, errNotHere.Error(), http.StatusNotFound)
		return
	}
	defer content.Close()
	if _, ok := s.shown(r, with); !ok {
		http.Error(w, errNotHere.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(content, 0, content.Size()))
}

// serveTurn gives a machine its turn and waits until it has fetched.
func (s *Sources) serveTurn(w http.ResponseWriter, r *http.Request, peer string) {
	d, err := digest.Parse(r.URL.Query().Get("digest"))
	if err != nil || peer == "" {
		http.Error(w, "ask with digest=ALGORITHM:HEX", http.StatusBadRequest)
		return
	}
	from, done, err := s.takeTurn(r.Context(), d, peer)
	if err != nil {
		return // who asked is gone
	}
	ok := false
	defer func() { done(ok) }()
	w.Header().Set("Content-Type", "application/json")
	rc := http.NewResponseController(w)
	if err := errors.Join(json.NewEncoder(w).Encode(turnAnswer{from}), rc.Flush()); err != nil {
		return
	}
	end, err := io.ReadAll(io.LimitReader(r.Body, 64))
	ok = err == nil && string(end) == fetched
}
