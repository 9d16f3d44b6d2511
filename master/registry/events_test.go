package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// counted is a log that counts the transactions about Events.
type counted struct {
	*registrytest.Log
	events, others atomic.Int32
}

func (c *counted) Propose(ctx context.Context, t store.Txn) (store.Result, error) {
	if len(t.Ops) > 0 && strings.Contains(string(t.Ops[0].Key), "/events/") {
		c.events.Add(1)
	} else {
		c.others.Add(1)
	}
	return c.Log.Propose(ctx, t)
}

func remark(name string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: name},
		InvolvedObject: corev1.ObjectReference{Namespace: "default", Kind: "Pod", Name: "p"}, Reason: "R", Type: "Normal", Count: 1,
	}
}

// inEvents runs f over a registry that keeps at most so many Events, in a bubble.
func inEvents(t *testing.T, most int, f func(t *testing.T, r *registry.Registry, l *counted)) {
	synctest.Test(t, func(t *testing.T) {
		l := &counted{Log: registrytest.NewLog()}
		c := registrytest.Config(l)
		c.EventsMax = most
		f(t, registrytest.Start(t, c), l)
	})
}

func TestEventsShareTransactions(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, l *counted) {
		began := time.Now()
		if _, err := r.Create(t.Context(), api.Events, remark("first"), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a lone Event waited %s", took)
		}
		var all sync.WaitGroup
		revs := sync.Map{}
		for i := range 300 {
			all.Go(func() {
				o, err := r.Create(t.Context(), api.Events, remark(fmt.Sprintf("e%d", i)), client.CreateOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := revs.LoadOrStore(o.(*corev1.Event).ResourceVersion, true); twice {
					t.Error("two Events of one resourceVersion")
				}
			})
		}
		all.Wait()
		if n := l.events.Load(); n > 3 || n < 2 {
			t.Errorf("301 Events took %d transactions", n)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("they took %s", took)
		}
	})
}

// Writes that cannot succeed must not cost a transaction each.
func TestRefusedEventsShareTransactions(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, l *counted) {
		create := func(each func(i int, err error)) {
			var all sync.WaitGroup
			for i := range 500 {
				all.Go(func() {
					_, err := r.Create(t.Context(), api.Events, remark(fmt.Sprint("e", i)), client.CreateOptions{})
					each(i, err)
				})
			}
			all.Wait()
		}
		if _, err := r.Create(t.Context(), api.Events, remark("e499"), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for round := range 2 {
			l.events.Store(0)
			create(func(i int, err error) {
				if there := round == 1 || i == 499; there != apierrors.IsAlreadyExists(err) || !there && err != nil {
					t.Errorf("round %d, Event %d: %v", round, i, err)
				}
			})
			if n := l.events.Load(); n > 4 {
				t.Errorf("round %d took %d transactions", round, n)
			}
		}
	})
}

// An Event that is written again is no longer the oldest.
func TestSurplusSparesWhatIsWritten(t *testing.T) {
	inEvents(t, 20, func(t *testing.T, r *registry.Registry, _ *counted) {
		for i := range 21 {
			if _, err := r.Create(t.Context(), api.Events, remark(fmt.Sprint("e", i)), client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		again := remark("e0")
		again.Count = 2
		if _, err := r.Update(t.Context(), api.Events, again, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "default", Name: "e0"}, client.GetOptions{}); err != nil {
			t.Errorf("the Event that was just written: %v", err)
		}
		if _, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "default", Name: "e1"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the oldest is still there: %v", err)
		}
	})
}

// Twenty thousand Events must not hold up a hundred other writes.
func TestOtherWritesDoNotWaitForEvents(t *testing.T) {
	inEvents(t, 500, func(t *testing.T, r *registry.Registry, l *counted) {
		var flood sync.WaitGroup
		for i := range 500 {
			flood.Go(func() {
				for j := range 40 {
					_, err := r.Create(t.Context(), api.Events, remark(fmt.Sprintf("e%d.%d", i, j)), client.CreateOptions{})
					if err != nil && !apierrors.IsTooManyRequests(err) {
						t.Error(err)
					}
				}
			})
		}
		began := time.Now()
		for i := range 100 {
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("m%d", i)}}
			if _, err := r.Create(t.Context(), api.ConfigMaps, m, client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("a hundred writes took %s", took)
		}
		flood.Wait()
		span := time.Since(began)
		if n, most := l.events.Load(), int32(span/(200*time.Millisecond))+2; n > most {
			t.Errorf("%d transactions of Events in %s", n, span)
		}
	})
}

func TestWritersOfOneEventSeeEachOther(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, _ *counted) {
		var made, refused atomic.Int32
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				switch _, err := r.Create(t.Context(), api.Events, remark("same"), client.CreateOptions{}); {
				case err == nil:
					made.Add(1)
				case apierrors.IsAlreadyExists(err):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 || refused.Load() != 4 {
			t.Errorf("%d made it, %d were told that it exists", made.Load(), refused.Load())
		}
		for i := range 5 {
			all.Go(func() {
				patch := client.Patch{Type: types.MergePatchType, Data: fmt.Appendf(nil, `{"metadata":{"labels":{"l%d":""}}}`, i)}
				if _, err := r.Patch(t.Context(), api.Events, client.Key{Namespace: "default", Name: "same"}, patch, client.PatchOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		o, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "default", Name: "same"}, client.GetOptions{})
		if err != nil || len(o.GetLabels()) != 5 {
			t.Errorf("labels %v: %v", o.GetLabels(), err)
		}
	})
}

func TestTheNewestEventsAreKept(t *testing.T) {
	inEvents(t, 100, func(t *testing.T, r *registry.Registry, _ *counted) {
		for i := range 40 {
			var all sync.WaitGroup
			for j := range 5 {
				all.Go(func() {
					if _, err := r.Create(t.Context(), api.Events, remark(fmt.Sprintf("e%d.%d", i, j)), client.CreateOptions{}); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		l, err := r.List(t.Context(), api.Events, client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(l.Items); n > 105 || n < 80 {
			t.Errorf("%d Events are kept", n)
		}
		for _, o := range l.Items {
			if strings.HasPrefix(o.GetName(), "e0.") || strings.HasPrefix(o.GetName(), "e1.") {
				t.Errorf("%s is kept, newer ones are not", o.GetName())
			}
		}
		for j := range 5 {
			if _, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "default", Name: fmt.Sprintf("e39.%d", j)}, client.GetOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
}

// Who floods a namespace pushes out what is in it, not what others have to say.
func TestAFloodOfEventsStaysInItsNamespace(t *testing.T) {
	inEvents(t, 200, func(t *testing.T, r *registry.Registry, _ *counted) {
		write := func(ns, name string) {
			e := remark(name)
			e.Namespace, e.InvolvedObject.Namespace = ns, ns
			if _, err := r.Create(t.Context(), api.Events, e, client.CreateOptions{}); err != nil {
				t.Error(err)
			}
		}
		for i := range 30 {
			write("quiet", fmt.Sprint("e", i))
			write("calm", fmt.Sprint("e", i))
		}
		var flood sync.WaitGroup
		for i := range 2000 {
			flood.Go(func() { write("flood", fmt.Sprint("e", i)) })
		}
		flood.Wait()
		write("flood", "last")
		for ns, want := range map[string]int{"quiet": 30, "calm": 30} {
			l, err := r.List(t.Context(), api.Events, client.ListOptions{Namespace: ns})
			if err != nil || len(l.Items) != want {
				t.Errorf("%s has %d of its %d Events: %v", ns, len(l.Items), want, err)
			}
		}
		l, err := r.List(t.Context(), api.Events, client.ListOptions{})
		if err != nil || len(l.Items) > 210 {
			t.Errorf("%d Events are kept: %v", len(l.Items), err)
		}
		if _, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "flood", Name: "last"}, client.GetOptions{}); err != nil {
			t.Errorf("the newest: %v", err)
		}
	})
}

func TestTooManyWaitingEventsAreRefused(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, l *counted) {
		l.SetQuorum(false)
		var done, refused atomic.Int32
		var all sync.WaitGroup
		for i := range 4000 {
			all.Go(func() {
				switch _, err := r.Create(t.Context(), api.Events, remark(fmt.Sprint("e", i)), client.CreateOptions{}); {
				case err == nil:
					done.Add(1)
				case apierrors.IsTooManyRequests(err):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		l.SetQuorum(true)
		all.Wait()
		if refused.Load() == 0 || done.Load() < 2048 {
			t.Errorf("%d were written, %d refused", done.Load(), refused.Load())
		}
	})
}

func TestAnEventIsWithdrawnWhileItWaits(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, _ *counted) {
		if _, err := r.Create(t.Context(), api.Events, remark("first"), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := r.Create(ctx, api.Events, remark("second"), client.CreateOptions{}); err == nil {
			t.Fatal("it did not wait")
		}
		time.Sleep(time.Second)
		if _, err := r.Get(t.Context(), api.Events, client.Key{Namespace: "default", Name: "second"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("its writer had gone, and got %v", err)
		}
	})
}

func TestAllWritersHearOfALostMaster(t *testing.T) {
	inEvents(t, 0, func(t *testing.T, r *registry.Registry, l *counted) {
		l.SetMaster(false)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				_, err := r.Create(t.Context(), api.Events, remark(fmt.Sprint("e", i)), client.CreateOptions{})
				if !registry.IsNotMaster(err) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		l.SetMaster(true)
		l.LoseAnswers(1)
		_, err := r.Create(t.Context(), api.Events, remark("lost"), client.CreateOptions{})
		if !apierrors.IsTimeout(err) || errors.Is(err, context.Canceled) {
			t.Errorf("an unknown outcome is told as %v", err)
		}
	})
}
