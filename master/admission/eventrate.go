package admission

import (
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
)

// eventRate refuses Events that come too fast: of one source about one object, of one user, into one namespace. It is Kubernetes' EventRateLimit; what that
// calls the server's limit, the registry has. An Event is a remark, and most are of controllers that nobody watches: one that has gone wrong, or a
// tenant who wants to, must not take the log's and everybody's replicas' time. Nothing healthy comes near these limits: a machine that starts all
// its pods at once makes some five Events for each, the Master's own controllers, whose recorders have bounds of their own, are not asked, and nodes
// count as users only, so that five hundred pods of a namespace may start together.
type eventRate struct {
	now                     func() time.Time
	sources, users, targets *buckets
}

// The limits: so many a second for long, after so many at once.
const (
	eventsOfSource, eventsOfSourceAtOnce       = 1, 100
	eventsOfUser, eventsOfUserAtOnce           = 50, 2500
	eventsOfNamespace, eventsOfNamespaceAtOnce = 50, 1000
)

// bucketsKept is how many sources, users and namespaces are remembered. One that is forgotten begins with a full bucket; the wider limits hold all the same.
const bucketsKept = 4096

func newEventRate(now func() time.Time) *eventRate {
	return &eventRate{
		now: now, sources: newBuckets(eventsOfSource, eventsOfSourceAtOnce, bucketsKept),
		users: newBuckets(eventsOfUser, eventsOfUserAtOnce, bucketsKept), targets: newBuckets(eventsOfNamespace, eventsOfNamespaceAtOnce, bucketsKept),
	}
}

// Admit implements Plugin. The narrowest limit is asked first, so that what it refuses is nobody else's loss.
func (e *eventRate) Admit(_ context.Context, r *Request) error {
	if r.Kind != api.Events && r.Kind != api.EventsV1 || r.Object == nil || r.User == nil || r.DryRun {
		return nil
	}
	now := e.now()
	switch {
	case !e.sources.take(sourceAndObject(r.Object), now):
		return tooManyEvents("of this source about this object")
	case !e.users.take(r.User.Name, now):
		return tooManyEvents("of this user")
	case !slices.Contains(r.User.Groups, "system:nodes") && !e.targets.take(r.Key.Namespace, now):
		return tooManyEvents("in this namespace")
	}
	return nil
}

// tooManyEvents does not say when to try again: a recorder that waited would hold up all that comes after.
func tooManyEvents(which string) error {
	return apierrors.NewTooManyRequestsError("limit reached on the rate of Events " + which)
}

// sourceAndObject is what Events have in common that say something of one object.
func sourceAndObject(o api.Object) string {
	var s corev1.EventSource
	var about corev1.ObjectReference
	switch o := o.(type) {
	case *corev1.Event:
		s, about = o.Source, o.InvolvedObject
		if s == (corev1.EventSource{}) {
			s = corev1.EventSource{Component: o.ReportingController, Host: o.ReportingInstance}
		}
	case *eventsv1.Event:
		s, about = corev1.EventSource{Component: o.ReportingController, Host: o.ReportingInstance}, o.Regarding
	}
	return strings.Join([]string{s.Component, s.Host, about.Kind, about.Namespace, about.Name, string(about.UID), about.APIVersion}, "\x00")
}

// buckets are token buckets by name, of those that were used last. Safe for concurrent use.
type buckets struct {
	limit  rate.Limit
	burst  int
	most   int
	mu     sync.Mutex
	byName map[string]*list.Element // of recent, with a *bucket
	recent *list.List               // the one used last is in front
}

type bucket struct {
	name   string
	tokens *rate.Limiter
}

func newBuckets(limit rate.Limit, burst, most int) *buckets {
	return &buckets{limit: limit, burst: burst, most: most, byName: map[string]*list.Element{}, recent: list.New()}
}

// take takes a token of a name's bucket, if there is one.
func (b *buckets) take(name string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byName[name]
	if e == nil {
		e = b.recent.PushFront(&bucket{name, rate.NewLimiter(b.limit, b.burst)})
		b.byName[name] = e
		if last := b.recent.Back(); b.recent.Len() > b.most {
			delete(b.byName, b.recent.Remove(last).(*bucket).name)
		}
	}
	b.recent.MoveToFront(e)
	return e.Value.(*bucket).tokens.AllowN(now, 1)
}
