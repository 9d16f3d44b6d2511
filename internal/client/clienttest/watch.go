package clienttest

import (
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
)

func watchLaws() []law {
	return []law{
		{"WatchBringsEveryChangeInOrder", watchOrder},
		{"WatchFromARevisionRepeatsTheSameEvents", watchResume},
		{"WatchDeletedHasTheLastStateAndItsOwnRevision", watchDeleted},
		{"WatchWithASelectorAddsAndDeletesAtItsEdge", watchEdge},
		{"WatchSelectsByField", watchField},
		{"WatchStaysInItsNamespace", watchNamespace},
		{"WatchWithoutRevisionBeginsWithWhatIsThere", watchInitial},
		{"WatchListEndsTheInitialEventsWithABookmark", watchList},
		{"WatchAtForgottenHistoryIsExpiredNeverSilent", watchExpired},
		{"CloseEndsAWatch", watchClose},
	}
}

func watchOrder(e *env) {
	w := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: e.listRev(api.ConfigMaps)})
	var want []string
	for i := range 10 {
		name := fmt.Sprint("cm-", i)
		cm := create(e, api.ConfigMaps, e.configMap(name, "1"))
		cm.Data["v"] = "2"
		update(e, api.ConfigMaps, cm, "")
		want = append(want, "ADDED "+name, "MODIFIED "+name)
	}
	got := e.next(w, len(want))
	e.wantEvents(got, want...)
	last := uint64(0)
	for _, ev := range got {
		r := rev(e, ev.Object.GetResourceVersion())
		if r <= last {
			e.Fatalf("revision %d after %d", r, last)
		}
		last = r
	}
}

func watchResume(e *env) {
	from := e.listRev(api.ConfigMaps)
	w := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: from})
	for _, name := range []string{"a", "b", "c"} {
		create(e, api.ConfigMaps, e.configMap(name, "1"))
	}
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("b"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	all := e.next(w, 4)
	for i := range all {
		again := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: from})
		for j, ev := range e.next(again, 4-i) {
			if ev.Type != all[i+j].Type || !same(ev.Object, all[i+j].Object) {
				e.Fatalf("from %s event %d is %s %v, was %s %v", from, j, ev.Type, ev.Object, all[i+j].Type, all[i+j].Object)
			}
		}
		again.Close()
		from = all[i].Object.GetResourceVersion()
	}
}

func watchDeleted(e *env) {
	cm := create(e, api.ConfigMaps, e.configMap("a", "last words"))
	w := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: cm.ResourceVersion})
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	next := create(e, api.ConfigMaps, e.configMap("b", "1"))
	got := e.next(w, 2)
	e.wantEvents(got, "DELETED a", "ADDED b")
	gone := got[0].Object.(*corev1.ConfigMap)
	if gone.Data["v"] != "last words" || gone.UID != cm.UID {
		e.Fatalf("deleted %+v", gone)
	}
	if r := rev(e, gone.ResourceVersion); r <= rev(e, cm.ResourceVersion) || r >= rev(e, next.ResourceVersion) {
		e.Fatalf("created at %s, deleted at %d, next at %s", cm.ResourceVersion, r, next.ResourceVersion)
	}
}

func watchEdge(e *env) {
	w := e.watch(api.ConfigMaps, client.ListOptions{
		ResourceVersion: e.listRev(api.ConfigMaps), Labels: labels.SelectorFromSet(labels.Set{"in": "yes"}),
	})
	cm := create(e, api.ConfigMaps, e.configMap("a", "1")) // outside
	step := func(in bool, v string) {
		cm.Labels = nil
		if in {
			cm.Labels = map[string]string{"in": "yes"}
		}
		cm.Data["v"] = v
		cm = update(e, api.ConfigMaps, cm, "")
	}
	step(true, "1")  // enters
	step(true, "2")  // changes inside
	step(false, "3") // leaves
	step(false, "4") // changes outside
	step(true, "5")  // enters again
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	got := e.next(w, 5)
	e.wantEvents(got, "ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a")
	last := uint64(0)
	for _, ev := range got {
		r := rev(e, ev.Object.GetResourceVersion())
		if r <= last {
			e.Fatalf("revision %d after %d", r, last)
		}
		last = r
	}
}

func watchField(e *env) {
	w := e.watch(api.Pods, client.ListOptions{
		ResourceVersion: e.listRev(api.Pods), Fields: fields.OneTermEqualSelector("spec.nodeName", "law-node"),
	})
	create(e, api.Pods, e.pod("a"))
	b := e.pod("b")
	b.Spec.NodeName = "law-node"
	create(e, api.Pods, b)
	e.wantEvents(e.next(w, 1), "ADDED b")
	e.forcePodGone("b")
}

func watchNamespace(e *env) {
	other := namespace(e.T, e.ctx, e.c)
	w := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: e.listRev(api.ConfigMaps)})
	cm := e.configMap("elsewhere", "1")
	cm.Namespace = other
	create(e, api.ConfigMaps, cm)
	create(e, api.ConfigMaps, e.configMap("here", "1"))
	e.wantEvents(e.next(w, 1), "ADDED here")
}

func watchInitial(e *env) {
	mine := labels.SelectorFromSet(labels.Set{"mine": "yes"})
	for _, name := range []string{"a", "b"} {
		cm := e.configMap(name, "1")
		cm.Labels = map[string]string{"mine": "yes"}
		create(e, api.ConfigMaps, cm)
	}
	w := e.watch(api.ConfigMaps, client.ListOptions{Labels: mine})
	e.wantEvents(e.next(w, 2), "ADDED a", "ADDED b")
	cm := e.configMap("c", "1")
	cm.Labels = map[string]string{"mine": "yes"}
	create(e, api.ConfigMaps, cm)
	e.wantEvents(e.next(w, 1), "ADDED c")
}

func watchList(e *env) {
	for _, name := range []string{"a", "b"} {
		cm := e.configMap(name, "1")
		cm.Labels = map[string]string{"mine": "yes"}
		create(e, api.ConfigMaps, cm)
	}
	w := e.watch(api.ConfigMaps, client.ListOptions{
		Labels: labels.SelectorFromSet(labels.Set{"mine": "yes"}), SendInitialEvents: new(true), Bookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	var got []client.Event
	for {
		events, err := w.Next(e.ctx)
		if err != nil {
			e.Fatal(err)
		}
		got = append(got, events...)
		last := got[len(got)-1]
		if last.Type == watch.Bookmark && last.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
			break
		}
	}
	e.wantEvents(got[:len(got)-1], "ADDED a", "ADDED b")
	from := got[len(got)-1].Object.GetResourceVersion()
	cm := e.configMap("c", "1")
	cm.Labels = map[string]string{"mine": "yes"}
	create(e, api.ConfigMaps, cm)
	e.wantEvents(e.next(e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: from}), 1), "ADDED c")
}

func watchExpired(e *env) {
	if e.backend.Compact == nil {
		e.Skip("this backend cannot be made to forget")
	}
	from := e.listRev(api.ConfigMaps)
	for i := range 3 {
		create(e, api.ConfigMaps, e.configMap(fmt.Sprint("cm-", i), "1"))
	}
	e.backend.Compact(e.T)
	w, err := e.c.Watch(e.ctx, api.ConfigMaps, client.ListOptions{Namespace: e.ns, ResourceVersion: from})
	var got []client.Event
	if err == nil {
		defer w.Close()
		for err == nil && len(got) < 3 {
			var events []client.Event
			events, err = w.Next(e.ctx)
			got = append(got, events...)
		}
	}
	// What a backend still remembers it may bring, but then from the first event on, and no gap may go unsaid.
	want := []string{"ADDED cm-0", "ADDED cm-1", "ADDED cm-2"}
	e.wantEvents(got, want[:len(got)]...)
	if len(got) < len(want) && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		e.Fatalf("error is %v after %d events, want Expired", err, len(got))
	}
}

func watchClose(e *env) {
	w := e.watch(api.ConfigMaps, client.ListOptions{ResourceVersion: e.listRev(api.ConfigMaps)})
	ended := make(chan error, 1)
	go func() {
		_, err := w.Next(e.ctx)
		ended <- err
	}()
	w.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		e.Fatalf("Next after Close: %v", err)
	}
	w.Close()
}
