package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// TestListPlusEventsIsTheNextList is the registry's invariant: whatever is written, whoever watches what since when,
// a list and the events after it give what a list gives at the end. The window is small, so that some watches are
// served from the feed and some from the store.
func TestListPlusEventsIsTheNextList(t *testing.T) {
	l := registrytest.NewLog()
	c := registrytest.Config(l)
	c.Window, c.WindowBytes = 16, 4<<10
	r := registrytest.Start(t, c)
	selections := []client.ListOptions{
		{},
		{Namespace: "ns-1"},
		{Labels: labels.SelectorFromSet(labels.Set{"l": "1"})},
		{Namespace: "ns-0", Labels: labels.SelectorFromSet(labels.Set{"l": "0"})},
		{Fields: fields.OneTermEqualSelector("spec.nodeName", "n-1")},
		{Namespace: "ns-1", Fields: fields.OneTermEqualSelector("spec.nodeName", "n-0")},
		{Fields: fields.OneTermEqualSelector("metadata.name", "p-3")},
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var watchers sync.WaitGroup
	results := make(chan string, 200)
	end := make(chan uint64)
	stopped := make(chan struct{})
	var final uint64
	go func() { final = <-end; close(stopped) }()
	for i := range 400 {
		if i%8 == 0 {
			o := selections[rnd.IntN(len(selections))]
			watchers.Add(1)
			go func() {
				defer watchers.Done()
				if err := mirror(ctx, r, o, stopped, &final); err != nil {
					results <- fmt.Sprintf("since step %d, %+v: %v", i, o, err)
				}
			}()
		}
		randomWrite(t, r, rnd)
	}
	end <- r.Revision()
	watchers.Wait()
	close(results)
	for text := range results {
		t.Error(text)
	}
}

func randomWrite(t *testing.T, r *registry.Registry, rnd *rand.Rand) {
	t.Helper()
	key := client.Key{Namespace: fmt.Sprintf("ns-%d", rnd.IntN(2)), Name: fmt.Sprintf("p-%d", rnd.IntN(6))}
	var err error
	switch rnd.IntN(6) {
	case 0, 1:
		p := pod(key.Name, "")
		p.Namespace = key.Namespace
		p.Labels = map[string]string{"l": fmt.Sprint(rnd.IntN(2))}
		_, err = r.Create(t.Context(), api.Pods, p, client.CreateOptions{})
	case 2:
		zero := int64(0)
		_, err = r.Delete(t.Context(), api.Pods, key, client.DeleteOptions{GracePeriodSeconds: &zero})
	case 3:
		b := &corev1.Binding{Target: corev1.ObjectReference{Name: fmt.Sprintf("n-%d", rnd.IntN(2))}}
		_, err = r.Create(t.Context(), api.Pods, b, client.CreateOptions{Subresource: "binding", Key: key})
	default:
		body := fmt.Sprintf(`{"metadata":{"labels":{"l":"%d"},"annotations":{"a":"%d"}}}`, rnd.IntN(3), rnd.IntN(1000))
		_, err = r.Patch(t.Context(), api.Pods, key, client.Patch{Type: types.MergePatchType, Data: []byte(body)}, client.PatchOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
}

// mirror keeps a list up to date by its watch until the writer has ended, and compares it with a new list.
func mirror(ctx context.Context, r *registry.Registry, o client.ListOptions, stopped <-chan struct{}, final *uint64) error {
	list, err := r.List(ctx, api.Pods, o)
	if err != nil {
		return err
	}
	have := map[string]string{}
	for _, obj := range list.Items {
		have[obj.GetNamespace()+"/"+obj.GetName()] = obj.GetResourceVersion()
	}
	o.ResourceVersion = list.ResourceVersion
	w, err := r.Watch(ctx, api.Pods, o)
	if err != nil {
		return err
	}
	defer w.Close()
	last := uint64(0)
	apply := func(evs []client.Event) error {
		for _, ev := range evs {
			name := ev.Object.GetNamespace() + "/" + ev.Object.GetName()
			_, known := have[name]
			if known == (ev.Type == watch.Added) {
				return fmt.Errorf("%s of %s, known: %v", ev.Type, name, known)
			}
			var rev uint64
			fmt.Sscan(ev.Object.GetResourceVersion(), &rev)
			if rev <= last {
				return fmt.Errorf("revision %d after %d", rev, last)
			}
			last = rev
			have[name] = ev.Object.GetResourceVersion()
			if ev.Type == watch.Deleted {
				delete(have, name)
			}
		}
		return nil
	}
	idle, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stopped:
			_ = r.WaitRevision(ctx, *final)
			cancel()
		case <-idle.Done():
		}
	}()
	for {
		evs, err := w.Next(idle)
		if err != nil && idle.Err() == nil {
			return err
		}
		if err := apply(evs); err != nil {
			return err
		}
		if err != nil {
			break
		}
	}
	// What came between the last event and the end of the wait.
	o.ResourceVersion = ""
	list, err = r.List(ctx, api.Pods, o)
	if err != nil {
		return err
	}
	want := map[string]string{}
	for _, obj := range list.Items {
		want[obj.GetNamespace()+"/"+obj.GetName()] = obj.GetResourceVersion()
	}
	for !cmp.Equal(want, have) {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		evs, err := w.Next(short)
		cancel()
		if err != nil {
			return fmt.Errorf("%w: %s", err, cmp.Diff(want, have))
		}
		if err := apply(evs); err != nil {
			return err
		}
	}
	return nil
}

func TestARestoredReplicaEndsWatchesAsExpired(t *testing.T) {
	r, l := registrytest.New(t)
	create(t, r, api.ConfigMaps, configMap("old"))
	other, from := registrytest.New(t)
	for i := range 5 {
		create(t, other, api.ConfigMaps, configMap(fmt.Sprintf("new-%d", i)))
	}
	w, err := r.Watch(t.Context(), api.ConfigMaps, client.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	from.Store().Apply(0, store.Txn{Compact: from.Store().Rev()})
	restoreFrom(t, from, l)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := w.Next(ctx); !apierrors.IsResourceExpired(err) {
		t.Errorf("watch over a restore: %v", err)
	}
	list, err := r.List(ctx, api.ConfigMaps, client.ListOptions{})
	if err != nil || len(list.Items) != 5 {
		t.Errorf("list after a restore: %v %v", list, err)
	}
}

func restoreFrom(t *testing.T, from, to *registrytest.Log) {
	t.Helper()
	var image bytes.Buffer
	if err := from.Store().Snapshot(&image); err != nil {
		t.Fatal(err)
	}
	if err := to.Store().Restore(&image); err != nil {
		t.Fatal(err)
	}
}

// A replica that was behind by a few changes gets them with a snapshot, and its watchers see each.
func TestWatchesGoOnOverASnapshotWithItsPast(t *testing.T) {
	ahead, from := registrytest.New(t)
	create(t, ahead, api.ConfigMaps, configMap("old"))
	r, l := registrytest.New(t)
	restoreFrom(t, from, l)
	at := from.Store().Rev()
	if err := r.WaitRevision(t.Context(), uint64(at)); err != nil {
		t.Fatal(err)
	}
	w, err := r.Watch(t.Context(), api.ConfigMaps, client.ListOptions{ResourceVersion: fmt.Sprint(at)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 5 {
		create(t, ahead, api.ConfigMaps, configMap(fmt.Sprintf("new-%d", i)))
	}
	restoreFrom(t, from, l)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var seen []string
	for len(seen) < 5 {
		events, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		for _, e := range events {
			seen = append(seen, string(e.Type)+" "+e.Object.GetName())
		}
	}
	if got := strings.Join(seen, ", "); got != "ADDED new-0, ADDED new-1, ADDED new-2, ADDED new-3, ADDED new-4" {
		t.Error(got)
	}
	if list, err := r.List(ctx, api.ConfigMaps, client.ListOptions{}); err != nil || len(list.Items) != 6 {
		t.Errorf("list after a restore: %v %v", list, err)
	}
}

// unready is a log whose replica is still being loaded.
type unready struct {
	*registrytest.Log
	ready chan struct{}
}

func (u unready) Ready() <-chan struct{} { return u.ready }

// TestAPeerThatStartsShowsNothingLess: a client that comes back to a peer before that has loaded what its disk holds waits, and does not find an empty
// cluster, nor that what it last saw is forgotten.
func TestAPeerThatStartsShowsNothingLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, from := registrytest.New(t)
		create(t, before, api.ConfigMaps, configMap("old"))
		at := from.Store().Rev()
		l := unready{registrytest.NewLog(), make(chan struct{})}
		config := registrytest.Config(l.Log)
		config.Log = l
		r := registrytest.Start(t, config)
		var clients sync.WaitGroup
		clients.Go(func() {
			list, err := r.List(t.Context(), api.ConfigMaps, client.ListOptions{ResourceVersion: "0"})
			if err != nil || len(list.Items) != 1 {
				t.Errorf("list: %v, %v", list, err)
			}
		})
		clients.Go(func() {
			w, err := r.Watch(t.Context(), api.ConfigMaps, client.ListOptions{ResourceVersion: fmt.Sprint(at)})
			if err != nil {
				t.Errorf("watch: %v", err)
				return
			}
			defer w.Close()
			if events, err := w.Next(t.Context()); err != nil || len(events) != 1 || events[0].Object.GetName() != "new" {
				t.Errorf("watch: %v, %v", events, err)
			}
		})
		synctest.Wait()
		restoreFrom(t, from, l.Log)
		close(l.ready)
		synctest.Wait()
		create(t, r, api.ConfigMaps, configMap("new"))
		clients.Wait()
	})
}

func TestManyWritersOfOneObjectLoseNothing(t *testing.T) {
	r, _ := registrytest.New(t)
	create(t, r, api.ConfigMaps, configMap("a", "n", "0"))
	key := client.Key{Namespace: "ns", Name: "a"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for {
					obj, err := r.Get(t.Context(), api.ConfigMaps, key, client.GetOptions{})
					if err != nil {
						t.Error(err)
						return
					}
					cm := obj.DeepCopyObject().(*corev1.ConfigMap)
					var n int
					fmt.Sscan(cm.Data["n"], &n)
					cm.Data["n"] = fmt.Sprint(n + 1)
					if _, err = r.Update(t.Context(), api.ConfigMaps, cm, client.UpdateOptions{}); err == nil {
						break
					} else if !apierrors.IsConflict(err) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got := get(t, r, api.ConfigMaps, "a").(*corev1.ConfigMap).Data["n"]; got != "160" {
		t.Errorf("160 increments gave %s", got)
	}
}

func TestExpiredContinueTokenSaysSo(t *testing.T) {
	r, l := registrytest.New(t)
	for i := range 4 {
		create(t, r, api.ConfigMaps, configMap(fmt.Sprintf("cm%d", i)))
	}
	page, err := r.List(t.Context(), api.ConfigMaps, client.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	create(t, r, api.ConfigMaps, configMap("more"))
	l.Compact()
	if _, err := r.List(t.Context(), api.ConfigMaps, client.ListOptions{Limit: 2, Continue: page.Continue}); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v", err)
	}
}

func TestAnAdmittedWriteIsStoredAsAdmitted(t *testing.T) {
	l := registrytest.NewLog()
	c := registrytest.Config(l)
	c.Admit = func(_ context.Context, a *registry.Admission) error {
		if a.Key.Name == "refused" {
			return apierrors.NewForbidden(a.Kind.GVR().GroupResource(), a.Key.Name, fmt.Errorf("%s is refused", a.Operation))
		}
		if a.Object != nil {
			a.Object.SetAnnotations(map[string]string{"admitted": string(a.Operation)})
		}
		return nil
	}
	r := registrytest.Start(t, c)
	if out := create(t, r, api.ConfigMaps, configMap("a")); out.GetAnnotations()["admitted"] != "CREATE" {
		t.Errorf("got %v", out.GetAnnotations())
	}
	if _, err := r.Create(t.Context(), api.ConfigMaps, configMap("refused"), client.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}
