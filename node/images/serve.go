package images

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
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

// May reports whether an image that may be had with some credentials may be had with these. Nothing means that everyone may have it.
func May(with, shown []string) bool {
	_, ok := fit(with, shown)
	return ok
}

// fit returns which of the credentials shown an image may be had with.
func fit(with, shown []string) (string, bool) {
	if len(with) == 0 {
		return Anonymous, true
	}
	for _, w := range with {
		if w == Anonymous {
			return w, true
		}
		for _, id := range shown {
			if id == w && id != "" {
				return id, true
			}
		}
	}
	return "", false
}

// Handler serves what store holds to other machines, and keeps turns. peer names the machine that asks; the caller has authenticated it.
func (s *Sources) Handler(store Store, peer func(*http.Request) string) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+Path+"named", func(w http.ResponseWriter, r *http.Request) { serveNamed(w, r, store) })
	m.HandleFunc("GET "+Path+"v2/", func(w http.ResponseWriter, r *http.Request) { serveContent(w, r, store) })
	m.HandleFunc("POST "+Path+"turn", func(w http.ResponseWriter, r *http.Request) { s.serveTurn(w, r, peer(r)) })
	return m
}

func shown(r *http.Request) []string { return strings.Split(r.Header.Get(withHeader), ",") }

func serveNamed(w http.ResponseWriter, r *http.Request, store Store) {
	target, with, err := store.Named(r.Context(), r.URL.Query().Get("name"))
	which, ok := fit(with, shown(r))
	if err != nil || !ok {
		http.Error(w, errNotHere.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(named{target.MediaType, target.Digest, target.Size, which})
}

// serveContent answers v2/REPOSITORY/{blobs,manifests}/DIGEST, whatever the repository.
func serveContent(w http.ResponseWriter, r *http.Request, store Store) {
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
	if !May(with, shown(r)) {
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
