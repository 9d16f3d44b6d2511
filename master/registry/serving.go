package registry

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

// serving is which kinds there are and the feed of each. It is replaced whole, never changed.
type serving struct {
	table  *api.Table
	feeds  map[*api.Kind]*feed
	byPath map[string][]*feed // by the first segment of a key; the versions of a kind share it
}

func newServing(t *api.Table, w window) *serving {
	s := &serving{table: t, feeds: map[*api.Kind]*feed{}, byPath: map[string][]*feed{}}
	for _, k := range t.Kinds() {
		s.add(k, newFeed(k, w))
	}
	return s
}

func (s *serving) add(k *api.Kind, f *feed) {
	s.feeds[k] = f
	s.byPath[pathOf(k)] = append(s.byPath[pathOf(k)], f)
}

// Kinds returns the table of the kinds it serves now.
func (r *Registry) Kinds() *api.Table { return r.serving.Load().table }

// Live returns the handle of that table. It is changed before any reader here sees the state that it follows from.
func (r *Registry) Live() *api.Live { return r.live }

// feed returns that of a kind, which may be a row of an earlier table.
func (r *Registry) feed(k *api.Kind) (*feed, error) {
	s := r.serving.Load()
	if f, ok := s.feeds[k]; ok {
		return f, nil
	}
	if row, ok := s.table.ByResource(k.GVR()); ok {
		return s.feeds[row], nil
	}
	return nil, notServed()
}

func notServed() error {
	return failure(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

// reading calls read with the feed of a kind. It reports whether the feed was alive meanwhile; if not, it is called again with the one that took
// its place: definitions change while readers wait.
func (r *Registry) reading(k *api.Kind, read func(f *feed) (alive bool)) error {
	for {
		f, err := r.feed(k)
		if err != nil || read(f) {
			return err
		}
	}
}
