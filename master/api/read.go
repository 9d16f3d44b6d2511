package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/internal/client"
	"shoal/master/registry"
)

// staleAfter is how long a read waits for a quorum before it is answered from what this peer has. Once one had to be,
// the next ones wait staleAgain until the quorum is back.
const (
	staleAfter = 5 * time.Second
	staleAgain = 250 * time.Millisecond
)

// quorum remembers whether the last most-recent read found one.
type quorum struct {
	mu   sync.Mutex
	lost bool
}

func (q *quorum) wait() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost {
		return staleAgain
	}
	return staleAfter
}

func (q *quorum) set(lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = lost
}

// read runs f with the resourceVersion asked for. When the most recent state is asked for and there is no quorum to
// tell what that is, it runs f on what this peer has and says so in a Warning.
func (s *Server) read(w http.ResponseWriter, r *request, resourceVersion string, f func(ctx context.Context, rv string) error) error {
	ctx := r.Context()
	if resourceVersion != "" {
		return f(ctx, resourceVersion)
	}
	bounded, cancel := context.WithTimeout(ctx, s.quorum.wait())
	defer cancel()
	for {
		changed := s.cfg.Peers.Changed()
		err := f(bounded, "")
		switch {
		case err == nil || !noQuorum(bounded, err):
			s.quorum.set(false)
			return err
		case ctx.Err() != nil:
			return err
		}
		if !r.waits(bounded, changed) {
			continue
		}
		s.quorum.set(true)
		warn(w, fmt.Sprintf("no quorum: this is what this peer had at revision %d", s.reg.Revision()))
		return f(ctx, "0")
	}
}

// waits waits for news, without a seat, and reports whether ctx ended first.
func (r *request) waits(ctx context.Context, news <-chan struct{}) (ended bool) {
	r.turns.seat.Yield()
	defer r.turns.seat.Resume()
	select {
	case <-news:
		return false
	case <-ctx.Done():
		return true
	}
}

// noQuorum reports whether a read failed because the newest revision could not be learned.
func noQuorum(ctx context.Context, err error) bool {
	return ctx.Err() != nil || apierrors.IsServiceUnavailable(err)
}

// warn adds a Warning header, which clients show to their user.
func warn(w http.ResponseWriter, text string) {
	w.Header().Add("Warning", "299 - "+strconv.QuoteToASCII(text))
}

func (s *Server) get(w http.ResponseWriter, r *request) {
	key := client.Key{Name: r.Name}
	if r.kind.Namespaced {
		key.Namespace = r.Namespace
	}
	var e *registry.Entry
	err := s.read(w, r, r.query().Get("resourceVersion"), func(ctx context.Context, rv string) (err error) {
		e, err = s.reg.GetEntry(ctx, r.kind, key, client.GetOptions{ResourceVersion: rv})
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.Subresource == "scale" {
		scale, err := registry.ScaleOf(r.kind, e.Object)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.writeObject(w, r, r.format.plain(), http.StatusOK, scale)
		return
	}
	s.writeEntry(w, r, http.StatusOK, e)
}

// plain is the format without a shape, for objects that have no table.
func (f format) plain() format { return format{media: f.media, pretty: f.pretty} }

func (s *Server) list(w http.ResponseWriter, r *request) {
	o, _, err := r.listOptions()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var es *registry.Entries
	fresh := o.ResourceVersion
	if o.Continue != "" {
		fresh = "0" // the token says which revision
	}
	err = s.read(w, r, fresh, func(ctx context.Context, rv string) (err error) {
		if o.Continue == "" {
			o.ResourceVersion = rv
		}
		es, err = s.reg.ListEntries(ctx, r.kind, o)
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.enlarge(r, len(es.Items)); err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeList(w, r, es)
}

// listOptions reads the query of a list, watch or deletecollection, with the timeout it asks for.
func (r *request) listOptions() (client.ListOptions, time.Duration, error) {
	q := r.query()
	o := client.ListOptions{
		Namespace:            r.Namespace,
		ResourceVersion:      q.Get("resourceVersion"),
		ResourceVersionMatch: metav1.ResourceVersionMatch(q.Get("resourceVersionMatch")),
		Continue:             q.Get("continue"),
		Bookmarks:            boolParam(q, "allowWatchBookmarks"),
	}
	if !r.kind.Namespaced {
		o.Namespace = ""
	}
	var err error
	if v := q.Get("limit"); v != "" {
		if o.Limit, err = strconv.ParseInt(v, 10, 64); err != nil {
			return o, 0, badRequest("%v", err)
		}
	}
	var timeout time.Duration
	if v := q.Get("timeoutSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return o, 0, badRequest("%v", err)
		}
		timeout = time.Duration(min(n, math.MaxInt64/int64(time.Second))) * time.Second
		if n < 0 {
			timeout = 1 // over at once, as in Kubernetes; nothing would mean no limit
		}
	}
	if v := q.Get("labelSelector"); v != "" {
		if o.Labels, err = registry.ParseLabels(v); err != nil {
			return o, 0, err
		}
	}
	if v := q.Get("fieldSelector"); v != "" {
		if o.Fields, err = registry.ParseFields(v); err != nil {
			return o, 0, err
		}
	}
	if _, ok := q["sendInitialEvents"]; ok {
		v := boolParam(q, "sendInitialEvents")
		o.SendInitialEvents = &v
	}
	if r.Name != "" { // a watch of one object
		one := fields.OneTermEqualSelector("metadata.name", r.Name)
		if o.Fields == nil {
			o.Fields = one
		} else {
			o.Fields = fields.AndSelectors(o.Fields, one)
		}
	}
	return o, timeout, validateMatch(r.Verb == "watch", &o)
}

// validateMatch checks the combination of resourceVersion, resourceVersionMatch and sendInitialEvents.
func validateMatch(watch bool, o *client.ListOptions) error {
	if o.ResourceVersionMatch == "" && o.SendInitialEvents == nil {
		return nil
	}
	meta := &metav1.ListOptions{
		Watch: watch, ResourceVersion: o.ResourceVersion, ResourceVersionMatch: o.ResourceVersionMatch, Continue: o.Continue,
		SendInitialEvents: o.SendInitialEvents, AllowWatchBookmarks: o.Bookmarks,
	}
	errs := validateListOptions(meta)
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
}

func validateListOptions(o *metav1.ListOptions) field.ErrorList {
	var errs field.ErrorList
	match := field.NewPath("resourceVersionMatch")
	switch {
	case o.SendInitialEvents != nil && !o.Watch:
		errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	case o.SendInitialEvents != nil && o.ResourceVersionMatch != metav1.ResourceVersionMatchNotOlderThan:
		errs = append(errs, field.Forbidden(match, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	case o.SendInitialEvents != nil:
	case o.Watch:
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	case o.ResourceVersion == "":
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
	case o.Continue != "":
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden when continue is provided"))
	case o.ResourceVersionMatch != metav1.ResourceVersionMatchExact && o.ResourceVersionMatch != metav1.ResourceVersionMatchNotOlderThan:
		errs = append(errs, field.NotSupported(match, o.ResourceVersionMatch, []string{"Exact", "NotOlderThan", ""}))
	case o.ResourceVersionMatch == metav1.ResourceVersionMatchExact && o.ResourceVersion == "0":
		errs = append(errs, field.Forbidden(match, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
	}
	return errs
}
