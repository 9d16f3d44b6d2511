package quota

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Objects are what is counted, as this term's caches have it.
type Objects interface {
	// Each calls f with every object of a namespace. A change that it has shown may still be told of by Changed.
	Each(namespace string, f func(k *api.Kind, o api.Object))
	// WaitFor blocks until the objects of a kind are those of a revision, or newer.
	WaitFor(ctx context.Context, k *api.Kind, rev string) error
}

// Ledger knows what the objects of every namespace that has quotas take, what is being written included. It is safe for concurrent use.
type Ledger struct {
	objects Objects
	changed func(quota client.Key)
	ready   chan struct{}
	term    context.Context // set before ready is closed
	watched atomic.Int64    // how many namespaces have quotas

	mu         sync.Mutex
	namespaces map[string]*books // those that have quotas
}

// books are those of one namespace.
type books struct {
	accounts map[string]*account
	objects  map[object]counted
	charges  map[object][]*charge
}

// object is one by its name. Not by a row of its kind: those of a custom one come and go with changes of its definition.
type object struct {
	schema.GroupKind
	name string
}

type counted struct {
	api.Object
	kind *api.Kind
}

// account is one quota with what was taken from it.
type account struct {
	quota    *corev1.ResourceQuota
	used     corev1.ResourceList // by what there is
	reserved corev1.ResourceList // by what is being written
}

// charge is a write that is not counted yet.
type charge struct {
	amounts map[*account]corev1.ResourceList
	created types.UID // of a new object
	settled bool
	rev     uint64 // of the write, once it is known
	seen    uint64 // the newest change of the object that has been counted since
}

// NewLedger returns one that is empty until Changed has told it of every object that there is, and then Ready. changed is called with the key of a
// quota when what is used of it may have changed; it must not block.
func NewLedger(o Objects, changed func(client.Key)) *Ledger {
	return &Ledger{objects: o, changed: changed, ready: make(chan struct{}), namespaces: map[string]*books{}}
}

// Ready tells that all objects are known, and how long the ledger is used. It is called once.
func (l *Ledger) Ready(term context.Context) {
	l.term = term
	close(l.ready)
}

// IsReady reports whether Ready was called.
func (l *Ledger) IsReady() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// Changed counts a change of an object, in the order of its revisions. Calls for different kinds may come at once.
func (l *Ledger) Changed(k *api.Kind, old, o api.Object) {
	if !k.Namespaced || k != api.ResourceQuotas && l.watched.Load() == 0 {
		return
	}
	either := o
	if o == nil {
		either = old
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.namespaces[either.GetNamespace()]
	if k == api.ResourceQuotas {
		b = l.quotaChanged(b, either.GetNamespace(), either.GetName(), o)
	}
	if b != nil {
		l.count(b, k, either.GetName(), o)
	}
}

// Settled counts the objects of a kind anew of which changes may have been missed.
func (l *Ledger) Settled(k *api.Kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for namespace, b := range l.namespaces {
		there := map[string]bool{}
		l.objects.Each(namespace, func(one *api.Kind, o api.Object) {
			if one.GroupKind() == k.GroupKind() {
				there[o.GetName()] = true
				l.count(b, one, o.GetName(), o)
			}
		})
		for id, c := range maps.Clone(b.objects) {
			if id.GroupKind == k.GroupKind() && !there[id.name] {
				l.count(b, c.kind, id.name, nil)
			}
		}
	}
}

// quotaChanged takes up a quota, or lets it go, and returns the books of its namespace if it has any quotas left.
func (l *Ledger) quotaChanged(b *books, namespace, name string, o api.Object) *books {
	if o == nil {
		if b == nil {
			return nil
		}
		delete(b.accounts, name)
		if len(b.accounts) > 0 {
			return b
		}
		delete(l.namespaces, namespace)
		l.watched.Add(-1)
		return nil
	}
	quota, ok := o.(*corev1.ResourceQuota)
	if !ok {
		return b
	}
	if b == nil {
		b = &books{accounts: map[string]*account{}, objects: map[object]counted{}, charges: map[object][]*charge{}}
		l.namespaces[namespace] = b
		l.watched.Add(1)
		l.objects.Each(namespace, func(k *api.Kind, o api.Object) { b.objects[object{k.GroupKind(), o.GetName()}] = counted{o, k} })
	}
	had := b.accounts[name]
	if had != nil && had.quota.UID == quota.UID && equality.Semantic.DeepEqual(had.quota.Spec, quota.Spec) {
		had.quota = quota
		l.changed(client.KeyOf(quota)) // somebody may have written its status
		return b
	}
	a := &account{quota: quota, used: corev1.ResourceList{}, reserved: corev1.ResourceList{}}
	for hard := range quota.Spec.Hard {
		a.used[hard] = resource.Quantity{}
	}
	b.accounts[name] = a
	for _, c := range b.objects {
		a.take(a.used, c.kind, c.Object, 1)
	}
	l.changed(client.KeyOf(quota))
	return b
}

// take adds to a sum what an object takes from the account, so many times.
func (a *account) take(sum corev1.ResourceList, k *api.Kind, o api.Object, times int) {
	if o == nil || !matches(a.quota, o) {
		return
	}
	for name, q := range Usage(k, o) {
		if _, limited := a.quota.Spec.Hard[name]; limited {
			add(sum, name, q, times)
		}
	}
}

func add(sum corev1.ResourceList, name corev1.ResourceName, q resource.Quantity, times int) {
	had := sum[name].DeepCopy()
	if had.IsZero() {
		had.Format = q.Format
	}
	if times > 0 {
		had.Add(q)
	} else {
		had.Sub(q)
	}
	sum[name] = had
}

// count replaces what an object was counted as, nil for nothing. Counting the same twice changes nothing.
func (l *Ledger) count(b *books, k *api.Kind, name string, o api.Object) {
	id := object{k.GroupKind(), name}
	had := b.objects[id]
	var rev uint64
	if o == nil {
		delete(b.objects, id)
	} else {
		b.objects[id] = counted{o, k}
		rev, _ = strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	}
	for _, a := range b.accounts {
		before := maps.Clone(a.used)
		a.take(a.used, k, had.Object, -1)
		a.take(a.used, k, o, 1)
		if !equality.Semantic.DeepEqual(before, a.used) {
			l.changed(client.KeyOf(a.quota))
		}
	}
	for _, c := range slices.Clone(b.charges[id]) {
		c.seen = max(c.seen, rev)
		if c.created != "" && o != nil && o.GetUID() == c.created || c.rev > 0 && c.seen >= c.rev {
			b.drop(id, c)
		}
	}
}

// drop takes back what a charge has reserved.
func (b *books) drop(id object, c *charge) {
	i := slices.Index(b.charges[id], c)
	if i < 0 {
		return
	}
	for a, amounts := range c.amounts {
		for name, q := range amounts {
			add(a.reserved, name, q, -1)
		}
	}
	if b.charges[id] = slices.Delete(b.charges[id], i, i+1); len(b.charges[id]) == 0 {
		delete(b.charges, id)
	}
}

// ErrUnready means that the ledger is not complete yet: a term has just begun.
var ErrUnready = errors.New("what the namespace uses is not counted yet")

// Charge reserves what a write takes, until it is counted, or refuses it: the error says which quota is exceeded, and by what. settle must be called
// with the revision of the write, zero when it did not happen; only its first call counts.
func (l *Ledger) Charge(ctx context.Context, c *client.Charge) (settle func(rev uint64), err error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return nil, ErrUnready
	}
	if err := l.objects.WaitFor(ctx, api.ResourceQuotas, c.Quotas); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.namespaces[c.Key.Namespace]
	if b == nil {
		return func(uint64) {}, nil
	}
	made := &charge{amounts: map[*account]corev1.ResourceList{}}
	if c.Old == nil {
		made.created = c.New.GetUID()
	}
	for _, name := range slices.Sorted(maps.Keys(b.accounts)) {
		a := b.accounts[name]
		if p, ok := c.New.(*corev1.Pod); ok && c.Old == nil && matches(a.quota, p) {
			if lacks := missing(a.quota.Spec.Hard, p); lacks != "" {
				return nil, fmt.Errorf("failed quota: %s: must specify %s", name, lacks)
			}
		}
		amounts := corev1.ResourceList{}
		a.take(amounts, c.Kind, c.New, 1)
		a.take(amounts, c.Kind, c.Old, -1)
		if err := a.admits(amounts); err != nil {
			return nil, err
		}
		if len(amounts) > 0 {
			made.amounts[a] = amounts
		}
	}
	if len(made.amounts) == 0 {
		return func(uint64) {}, nil
	}
	id := object{c.Kind.GroupKind(), c.Key.Name}
	b.charges[id] = append(b.charges[id], made)
	for a, amounts := range made.amounts {
		for name, q := range amounts {
			add(a.reserved, name, q, 1)
		}
	}
	return func(rev uint64) { l.settle(b, id, c.Kind, made, rev) }, nil
}

// admits takes out of amounts what is no more than before, and refuses what is more than is left.
func (a *account) admits(amounts corev1.ResourceList) error {
	var over []corev1.ResourceName
	used := corev1.ResourceList{}
	for name, q := range amounts {
		if q.Sign() <= 0 {
			delete(amounts, name)
			continue
		}
		sum := a.used[name].DeepCopy()
		sum.Add(a.reserved[name])
		used[name] = sum.DeepCopy()
		sum.Add(q)
		if sum.Cmp(a.quota.Spec.Hard[name]) > 0 {
			over = append(over, name)
		}
	}
	if len(over) == 0 {
		return nil
	}
	slices.Sort(over)
	return fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", a.quota.Name, text(amounts, over), text(used, over), text(a.quota.Spec.Hard, over))
}

func text(amounts corev1.ResourceList, names []corev1.ResourceName) string {
	parts := make([]string, len(names))
	for i, name := range names {
		q := amounts[name]
		parts[i] = string(name) + "=" + q.String()
	}
	return strings.Join(parts, ",")
}

func (l *Ledger) settle(b *books, id object, k *api.Kind, c *charge, rev uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.settled {
		return
	}
	c.settled, c.rev = true, rev
	switch {
	case rev == 0 || c.seen >= rev:
		b.drop(id, c)
	case slices.Contains(b.charges[id], c):
		go l.await(b, id, k, c) // what is gone again before the cache looks is never told of
	}
}

// await drops a charge when the write is counted, at the latest when the term ends.
func (l *Ledger) await(b *books, id object, k *api.Kind, c *charge) {
	if l.objects.WaitFor(l.term, k, strconv.FormatUint(c.rev, 10)) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b.drop(id, c)
}

// Used returns what is used of a quota and what its limits are; false when there is no such quota. The results are the caller's.
func (l *Ledger) Used(key client.Key) (used, hard corev1.ResourceList, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.namespaces[key.Namespace]
	if b == nil || b.accounts[key.Name] == nil {
		return nil, nil, false
	}
	a := b.accounts[key.Name]
	return maps.Clone(a.used), maps.Clone(a.quota.Spec.Hard), true
}
