package admission

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// remarks is a limiter on a clock that tests move.
type remarks struct {
	t    *testing.T
	now  time.Time
	rate *eventRate
}

func newRemarks(t *testing.T) *remarks {
	r := &remarks{t: t, now: time.Unix(1, 0)}
	r.rate = newEventRate(func() time.Time { return r.now })
	return r
}

// admitted returns how many of n Events of a user in a namespace, each about another pod unless said otherwise, are let through.
func (r *remarks) admitted(n int, user *User, ns, pod string) (ok int) {
	r.t.Helper()
	for i := range n {
		about := pod
		if about == "" {
			about = fmt.Sprint("pod-", i)
		}
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: ns}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: about}}
		err := r.rate.Admit(r.t.Context(), &Request{Operation: Create, Kind: api.Events, Key: client.Key{Namespace: ns}, Object: e, User: user})
		switch {
		case err == nil:
			ok++
		case !apierrors.IsTooManyRequests(err):
			r.t.Fatalf("refused with %v", err)
		}
	}
	return ok
}

func TestAFloodOfEventsIsRefused(t *testing.T) {
	r := newRemarks(t)
	flooder, other := &User{Name: "flooder"}, &User{Name: "other"}
	if n := r.admitted(5000, flooder, "one", ""); n != eventsOfNamespaceAtOnce {
		t.Errorf("%d Events at once", n)
	}
	if n := r.admitted(10, other, "one", ""); n != 0 {
		t.Errorf("%d more in a namespace that is full", n)
	}
	if n := r.admitted(10, other, "two", ""); n != 10 {
		t.Errorf("a flood elsewhere lets %d of 10 through", n)
	}
	// Those that the namespace refused were the user's, too.
	if n := r.admitted(5000, flooder, "three", ""); n != 0 {
		t.Errorf("%d of the user's in another namespace", n)
	}
	r.now = r.now.Add(2 * time.Second)
	if n := r.admitted(5000, flooder, "three", ""); n != 2*eventsOfUser {
		t.Errorf("%d after two seconds", n)
	}
	r.now = r.now.Add(time.Hour)
	if n := r.admitted(5000, other, "one", ""); n != eventsOfNamespaceAtOnce {
		t.Errorf("%d after an hour", n)
	}
}

func TestOneSourceAboutOneObject(t *testing.T) {
	r := newRemarks(t)
	if n := r.admitted(500, &User{Name: "a"}, "one", "pod"); n != eventsOfSourceAtOnce {
		t.Errorf("%d Events about one pod", n)
	}
	if n := r.admitted(500, &User{Name: "a"}, "one", ""); n != 500 {
		t.Errorf("%d about others: what is refused took from the namespace", n)
	}
	r.now = r.now.Add(3 * time.Second)
	if n := r.admitted(500, &User{Name: "a"}, "one", "pod"); n != 3*eventsOfSource {
		t.Errorf("%d after three seconds", n)
	}
	by := func(reporter string) string {
		return sourceAndObject(&eventsv1.Event{ReportingController: reporter, Regarding: corev1.ObjectReference{Name: "pod"}})
	}
	older := &corev1.Event{ReportingController: "x", InvolvedObject: corev1.ObjectReference{Name: "pod"}}
	if by("x") == by("y") || by("x") != sourceAndObject(older) {
		t.Error("what reports is not told apart, or not the same in both versions")
	}
}

// A machine starts 250 pods, ten Events each; 500 pods of a namespace start on two machines. The Master's controllers write what they write.
func TestNothingHealthyIsRefused(t *testing.T) {
	r := newRemarks(t)
	for _, node := range []string{"a", "b"} {
		u := &User{Name: "system:node:" + node, Groups: []string{"system:nodes"}}
		if n := r.admitted(2500, u, "one", ""); n != 2500 {
			t.Errorf("%d of the Events of 250 pods", n)
		}
	}
	if n := r.admitted(20_000, nil, "one", "same"); n != 20_000 {
		t.Errorf("%d of the controllers'", n)
	}
	if n := r.admitted(100, &User{Name: "a"}, "one", ""); n != 100 {
		t.Errorf("nodes and controllers leave %d of 100 to the namespace", n)
	}
}

func TestOnlyWritesOfEventsAreCounted(t *testing.T) {
	r := newRemarks(t)
	e := &corev1.Event{}
	for name, req := range map[string]*Request{
		"a dry run":        {Operation: Create, Kind: api.Events, Object: e, User: &User{Name: "a"}, DryRun: true},
		"a deletion":       {Operation: Delete, Kind: api.Events, OldObject: e, User: &User{Name: "a"}},
		"another kind":     {Operation: Create, Kind: api.ConfigMaps, Object: &corev1.ConfigMap{}, User: &User{Name: "a"}},
		"the same in time": {Operation: Create, Kind: api.EventsV1, Object: &eventsv1.Event{}, User: nil},
	} {
		for range 3000 {
			if err := r.rate.Admit(t.Context(), req); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	// events.k8s.io is another name for the same.
	for range eventsOfSourceAtOnce {
		_ = r.rate.Admit(t.Context(), &Request{Operation: Update, Kind: api.EventsV1, Object: &eventsv1.Event{}, User: &User{Name: "a"}})
	}
	if r.rate.Admit(t.Context(), &Request{Operation: Create, Kind: api.Events, Object: e, User: &User{Name: "a"}}) == nil {
		t.Error("what the one group refuses, the other lets through")
	}
}

func TestBucketsAreForgottenInTheOrderOfTheirUse(t *testing.T) {
	b := newBuckets(1, 1, 2)
	now := time.Unix(1, 0)
	for _, step := range []struct {
		name string
		ok   bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"a", false}, {"b", true}, {"c", true}} {
		if ok := b.take(step.name, now); ok != step.ok {
			t.Errorf("%s: %v", step.name, ok)
		}
		if len(b.byName) > 2 || b.recent.Len() != len(b.byName) {
			t.Fatalf("%d buckets are kept", len(b.byName))
		}
	}
}
