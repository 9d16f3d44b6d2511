package quota

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// world is what is stored, and what a cache that may be behind has told the ledger of.
type world struct {
	*testing.T
	ledger *Ledger
	rev    uint64
	stored map[string]*corev1.Pod
	told   map[string]*corev1.Pod
	later  []func() // changes that the ledger has not heard of

	mu    sync.Mutex
	heard uint64
	more  *sync.Cond
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, stored: map[string]*corev1.Pod{}, told: map[string]*corev1.Pod{}}
	w.more = sync.NewCond(&w.mu)
	w.ledger = NewLedger(w, func(client.Key) {})
	w.ledger.Ready(t.Context())
	return w
}

func (w *world) Each(_ string, f func(*api.Kind, api.Object)) {
	for _, name := range slices.Sorted(maps.Keys(w.told)) {
		f(api.Pods, w.told[name])
	}
}

func (w *world) WaitFor(_ context.Context, k *api.Kind, rev string) error {
	want, err := strconv.ParseUint(rev, 10, 64)
	if k != api.Pods || err != nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.heard < want {
		w.more.Wait()
	}
	return nil
}

// put stores a pod, or nothing under its name; the ledger hears of it later.
func (w *world) put(name string, p *corev1.Pod) uint64 {
	w.rev++
	rev := w.rev
	if p == nil {
		delete(w.stored, name)
	} else {
		p = p.DeepCopy()
		p.ResourceVersion = strconv.FormatUint(w.rev, 10)
		w.stored[name] = p
	}
	w.later = append(w.later, func() {
		old, had := w.told[name]
		var before, after api.Object
		if had {
			before = old
		}
		if p == nil {
			delete(w.told, name)
		} else {
			w.told[name], after = p, p
		}
		if before != nil || after != nil {
			w.ledger.Changed(api.Pods, before, after)
		}
		w.mu.Lock()
		w.heard = rev
		w.mu.Unlock()
		w.more.Broadcast()
	})
	return rev
}

func (w *world) hear() {
	if len(w.later) > 0 {
		w.later[0]()
		w.later = w.later[1:]
	}
}

func (w *world) taken() (milli int64) {
	for _, p := range w.stored {
		q := Usage(api.Pods, p)[corev1.ResourceRequestsCPU]
		milli += q.MilliValue()
	}
	return milli
}

func quotaOf(milli int64) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q", UID: "q"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}},
	}
}

func podOf(name string, milli int64) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("first-" + name)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}
	return p
}

// TestTheLedgerNeverOvershoots has writes under way, that succeed and fail, in any order with the changes that the ledger hears of.
func TestTheLedgerNeverOvershoots(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { neverOvershoots(t, seed) })
		})
	}
}

func neverOvershoots(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	const most = 1000
	taken := false
	type write struct {
		name   string
		old    *corev1.Pod
		pod    *corev1.Pod
		settle func(uint64)
	}
	var under []write
	refused, made := 0, 0
	for step := range 400 {
		if step == 50 { // until then there is no quota
			under = nil
			for len(w.later) > 0 {
				w.hear()
			}
			taken = w.taken() <= most
			w.ledger.Changed(api.ResourceQuotas, nil, quotaOf(most))
		}
		name := fmt.Sprint("p", rng.IntN(12))
		switch rng.IntN(5) {
		case 0, 1: // a write begins
			c := &client.Charge{Kind: api.Pods, Key: client.Key{Namespace: "ns", Name: name}}
			is := write{name: name, pod: podOf(name, int64(50+rng.IntN(300)))}
			is.pod.UID = types.UID(fmt.Sprint("uid-", step))
			if is.old = w.stored[name]; is.old != nil {
				c.Old, is.pod.UID = is.old, is.old.UID
			}
			c.New = is.pod
			settle, err := w.ledger.Charge(t.Context(), c)
			if err != nil {
				refused++
				continue
			}
			is.settle = settle
			under = append(under, is)
		case 2: // one ends: what it was computed from may have changed meanwhile
			if len(under) == 0 {
				continue
			}
			i := rng.IntN(len(under))
			is := under[i]
			under = slices.Delete(under, i, i+1)
			if w.stored[is.name] != is.old || rng.IntN(5) == 0 {
				is.settle(0)
				continue
			}
			made++
			rev := w.put(is.name, is.pod)
			if rng.IntN(2) == 0 { // the ledger may hear of it first
				for len(w.later) > 0 {
					w.hear()
				}
			}
			is.settle(rev)
		case 3:
			if w.stored[name] != nil {
				w.put(name, nil)
			}
		case 4:
			w.hear()
		}
		if n := w.taken(); n > most && taken {
			t.Fatalf("step %d: %dm of %dm is taken", step, n, most)
		}
		taken = taken || step >= 50 && w.taken() <= most
	}
	for _, is := range under {
		is.settle(0)
	}
	for len(w.later) > 0 {
		w.hear()
	}
	synctest.Wait()
	used, _, ok := w.ledger.Used(client.Key{Namespace: "ns", Name: "q"})
	if q := used[corev1.ResourceRequestsCPU]; !ok || q.MilliValue() != w.taken() {
		t.Errorf("%s is used, %dm is taken", q.String(), w.taken())
	}
	b := w.ledger.namespaces["ns"]
	if q := b.accounts["q"].reserved[corev1.ResourceRequestsCPU]; !q.IsZero() || len(b.charges) > 0 {
		t.Errorf("%s stays reserved by %d charges", q.String(), len(b.charges))
	}
	if seed == 0 && (refused == 0 || made == 0) {
		t.Errorf("%d refused, %d made", refused, made)
	}
}

// TestOneMoreThatFitsIsLetIn even when the ledger hears of a write before its writer does.
func TestOneMoreThatFitsIsLetIn(t *testing.T) {
	w := newWorld(t)
	w.ledger.Changed(api.ResourceQuotas, nil, quotaOf(200))
	charge := func(name string) (func(uint64), error) {
		return w.ledger.Charge(t.Context(), &client.Charge{Kind: api.Pods, Key: client.Key{Namespace: "ns", Name: name}, New: podOf(name, 100)})
	}
	first, err := charge("a")
	if err != nil {
		t.Fatal(err)
	}
	rev := w.put("a", podOf("a", 100))
	w.hear()
	second, err := charge("b")
	if err != nil {
		t.Fatalf("the second of two: %v", err)
	}
	first(rev)
	second(0)
	second(7) // which no longer counts
	if _, err := charge("c"); err != nil {
		t.Errorf("the second was not made: %v", err)
	}
	if _, err := charge("d"); err == nil {
		t.Error("three of two")
	}
	w.ledger.Changed(api.ResourceQuotas, quotaOf(200), nil)
	if _, err := charge("e"); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}
