// Package clienttest holds the laws of client.Interface as tests. Every implementation, and every path to one, must
// pass the same suite. A test makes its own namespace and leaves the rest of the backend alone, so the backend may be
// a whole running cluster.
package clienttest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Backend is what a factory makes for each test.
type Backend struct {
	Client client.Interface
	// Compact, when set, makes the backend forget all history up to now.
	Compact func(t *testing.T)
}

// Run runs every law over backends from factory.
func Run(t *testing.T, factory func(t *testing.T) Backend) {
	Each(t, func(t *testing.T, law func(*testing.T, Backend)) { law(t, factory(t)) })
}

// Each calls f for every law, in a subtest of its own. f runs the law: over one backend or one after the other, with the
// same t or with that of a synctest bubble.
func Each(t *testing.T, f func(t *testing.T, law func(*testing.T, Backend))) {
	for _, law := range laws() {
		t.Run(law.name, func(t *testing.T) {
			f(t, func(t *testing.T, b Backend) {
				t.Helper()
				// Generous: it only ends a test that would hang.
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				t.Cleanup(cancel)
				law.test(&env{T: t, ctx: ctx, c: b.Client, backend: b, ns: namespace(t, ctx, b.Client)})
			})
		})
	}
}

type law struct {
	name string
	test func(*env)
}

func laws() []law {
	var all []law
	for _, group := range [][]law{objectLaws(), listLaws(), watchLaws(), subresourceLaws(), patchLaws(), deleteLaws()} {
		all = append(all, group...)
	}
	return all
}

// env is one law's test with its own namespace.
type env struct {
	*testing.T
	ctx     context.Context //nolint:containedctx // a test's own
	c       client.Interface
	backend Backend
	ns      string
}

// namespace makes a namespace that goes with the test.
func namespace(t *testing.T, ctx context.Context, c client.Interface) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "law-"}}
	out, err := c.Create(ctx, api.Namespaces, ns, client.CreateOptions{})
	if err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	name := out.(*corev1.Namespace).Name
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = c.Delete(ctx, api.Namespaces, client.Key{Name: name}, client.DeleteOptions{})
	})
	return name
}

func (e *env) key(name string) client.Key { return client.Key{Namespace: e.ns, Name: name} }

func (e *env) configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name}, Data: map[string]string{"v": value}}
}

// pod is a pod that no scheduler takes.
func (e *env) pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "main", Image: "example.org/main:1"}},
		},
	}
}

// controller is a ReplicationController that wants no pods.
func (e *env) controller(name string) *corev1.ReplicationController {
	l := map[string]string{"app": name}
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: new(int32(0)), Selector: l,
			Template: &corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}}},
			},
		},
	}
}

func create[T api.Object](e *env, k *api.Kind, o T) T {
	e.Helper()
	out, err := e.c.Create(e.ctx, k, o, client.CreateOptions{})
	return must[T](e, out, err)
}

func update[T api.Object](e *env, k *api.Kind, o T, subresource string) T {
	e.Helper()
	out, err := e.c.Update(e.ctx, k, o, client.UpdateOptions{Subresource: subresource})
	return must[T](e, out, err)
}

func get[T api.Object](e *env, k *api.Kind, name string) T {
	e.Helper()
	out, err := e.c.Get(e.ctx, k, e.key(name), client.GetOptions{})
	return must[T](e, out, err)
}

// must returns o as a T that the test may change.
func must[T runtime.Object](e *env, o runtime.Object, err error) T {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	out, ok := o.(T)
	if !ok {
		e.Fatalf("answer is a %T, not a %T", o, *new(T))
	}
	return out.DeepCopyObject().(T)
}

// wantReason fails unless err is a StatusError with that reason and a message.
func (e *env) wantReason(err error, want metav1.StatusReason) {
	e.Helper()
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		e.Fatalf("error is %T (%v), want a StatusError with reason %s", err, err, want)
	}
	if status.ErrStatus.Reason != want {
		e.Fatalf("reason is %q (%v), want %q", status.ErrStatus.Reason, err, want)
	}
	if status.ErrStatus.Message == "" || status.ErrStatus.Code < 400 || status.ErrStatus.Status != metav1.StatusFailure {
		e.Fatalf("incomplete status: %+v", status.ErrStatus)
	}
}

func rev(e *env, s string) uint64 {
	e.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		e.Fatalf("resourceVersion %q is no number: %v", s, err)
	}
	return n
}

// same compares objects but for their type, which an implementation may leave out, and for empty or absent maps.
func same(a, b api.Object) bool {
	a, b = a.DeepCopyObject().(api.Object), b.DeepCopyObject().(api.Object)
	b.GetObjectKind().SetGroupVersionKind(a.GetObjectKind().GroupVersionKind())
	a.SetManagedFields(nil)
	b.SetManagedFields(nil)
	return equality.Semantic.DeepEqual(a, b)
}

func (e *env) watch(k *api.Kind, o client.ListOptions) client.Watch {
	e.Helper()
	if o.Namespace == "" {
		o.Namespace = e.ns
	}
	w, err := e.c.Watch(e.ctx, k, o)
	if err != nil {
		e.Fatalf("watch: %v", err)
	}
	e.Cleanup(w.Close)
	return w
}

func (e *env) listRev(k *api.Kind) string {
	e.Helper()
	l, err := e.c.List(e.ctx, k, client.ListOptions{Namespace: e.ns})
	if err != nil {
		e.Fatal(err)
	}
	return l.ResourceVersion
}

// next reads n events that are no bookmarks.
func (e *env) next(w client.Watch, n int) []client.Event {
	e.Helper()
	var out []client.Event
	for len(out) < n {
		events, err := w.Next(e.ctx)
		if err != nil {
			e.Fatalf("after %d of %d events: %v", len(out), n, err)
		}
		if len(events) == 0 {
			e.Fatal("Next returned no event and no error")
		}
		for _, ev := range events {
			if ev.Type != watch.Bookmark {
				out = append(out, ev)
			}
		}
	}
	if len(out) > n {
		e.Fatalf("%d events, want %d: %v", len(out), n, brief(out))
	}
	return out
}

// brief shows events as "TYPE name".
func brief(events []client.Event) []string {
	var out []string
	for _, ev := range events {
		out = append(out, string(ev.Type)+" "+ev.Object.GetName())
	}
	return out
}

func (e *env) wantEvents(got []client.Event, want ...string) {
	e.Helper()
	if !slices.Equal(brief(got), want) {
		e.Fatalf("events %v, want %v", brief(got), want)
	}
}
