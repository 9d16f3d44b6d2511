package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

// budgets tells in each PodDisruptionBudget how many of its pods may be evicted now. The eviction API takes from that number, and notes the pod,
// which counts as gone until it is, or until it has not gone for so long that it will not.
type budgets struct {
	Config
	queue client.Queue
}

// disruptedFor is how long an eviction that was allowed has to begin, as in Kubernetes.
const disruptedFor = 2 * time.Minute

const budgetController = "disruption-controller"

func newBudgets(c Config) loop {
	b := &budgets{Config: c, queue: client.NewQueue()}
	c.Caches.Budgets.OnChange(func(old, o *policyv1.PodDisruptionBudget) { b.queue.Add(client.KeyOf(cmp.Or(o, old))) })
	follow(c.Caches.Pods, b.podChanged)
	b.onScale()
	return newLoop(budgetController, b.queue, 2, b.reconcile)
}

// onScale looks again at a namespace's budgets when something in it wants another number of pods.
func (b *budgets) onScale() {
	again := func(namespace string) {
		for _, o := range b.Caches.Budgets.List(namespace, nil) {
			b.queue.Add(client.KeyOf(o))
		}
	}
	scaled(b.Caches.RCs, again)
	scaled(b.Caches.ReplicaSets, again)
	scaled(b.Caches.Deployments, again)
	scaled(b.Caches.StatefulSets, again)
}

// scaled tells the namespaces of objects whose spec has changed.
func scaled[T api.Object](cache *client.Cache[T], tell func(namespace string)) {
	var none T
	cache.OnChange(func(old, o T) {
		if any(o) == any(none) {
			o = old
		} else if any(old) != any(none) && old.GetGeneration() == o.GetGeneration() {
			return
		}
		tell(o.GetNamespace())
	})
}

func (b *budgets) podChanged(p api.Object) {
	for _, o := range b.Caches.Budgets.List(p.GetNamespace(), nil) {
		if budgetSelects(o, p) {
			b.queue.Add(client.KeyOf(o))
		}
	}
}

// budgetSelects: other than elsewhere, an empty selector selects all pods of the namespace.
func budgetSelects(o *policyv1.PodDisruptionBudget, p api.Object) bool {
	selector, err := metav1.LabelSelectorAsSelector(o.Spec.Selector)
	return err == nil && selector.Matches(labelsOf(p))
}

func (b *budgets) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := b.Caches.Budgets.Get(key)
	if !ok || o.DeletionTimestamp != nil {
		return 0, nil
	}
	var pods []*corev1.Pod
	for _, p := range b.Caches.Pods.List(o.Namespace, nil) {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && budgetSelects(o, p) {
			pods = append(pods, p)
		}
	}
	status := *o.Status.DeepCopy()
	expected, err := b.expected(o, pods)
	now := b.Now()
	var after time.Duration
	if err != nil {
		b.Events.EventFrom(budgetController, o, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		status.DisruptionsAllowed, status.ObservedGeneration = 0, o.Generation
		setAllowed(&status, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), o.Generation, now)
	} else {
		after = budgetStatus(o, &status, pods, expected, now)
	}
	return after, updateStatus(ctx, b.Config, api.PodDisruptionBudgets, b.Caches.Budgets, o, func(o *policyv1.PodDisruptionBudget) { o.Status = status })
}

// expected is how many pods there should be, which their controllers say; a budget of a plain number of pods that must be there does not ask.
func (b *budgets) expected(o *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (int, error) {
	if m := o.Spec.MinAvailable; o.Spec.MaxUnavailable == nil && (m == nil || m.Type == intstr.Int) {
		return len(pods), nil
	}
	want := map[any]int{}
	for _, p := range pods {
		ref := metav1.GetControllerOf(p)
		if ref == nil {
			return 0, fmt.Errorf("found no controller ref for pod %q", p.Name)
		}
		uid, n, ok := b.scaleOf(p.Namespace, ref)
		if !ok {
			return 0, fmt.Errorf("found no controllers for pod %q", p.Name)
		}
		want[uid] = n
	}
	total := 0
	for _, n := range want {
		total += n
	}
	return total, nil
}

// scaleOf is the object that says how many pods a controller should have, and how many.
func (b *budgets) scaleOf(namespace string, ref *metav1.OwnerReference) (uid any, n int, ok bool) {
	key := client.Key{Namespace: namespace, Name: ref.Name}
	switch {
	case isOf(ref, api.ReplicationControllers):
		if o, is := b.Caches.RCs.Get(key); is && o.UID == ref.UID {
			return o.UID, int(*orOne(o.Spec.Replicas)), true
		}
	case isOf(ref, api.StatefulSets):
		if o, is := b.Caches.StatefulSets.Get(key); is && o.UID == ref.UID {
			return o.UID, int(*orOne(o.Spec.Replicas)), true
		}
	case isOf(ref, api.ReplicaSets):
		o, is := b.Caches.ReplicaSets.Get(key)
		if !is || o.UID != ref.UID {
			return nil, 0, false
		}
		if up := metav1.GetControllerOf(o); up != nil && isOf(up, api.Deployments) {
			d, is := b.Caches.Deployments.Get(client.Key{Namespace: namespace, Name: up.Name})
			if !is || d.UID != up.UID {
				return nil, 0, false
			}
			return d.UID, int(*orOne(d.Spec.Replicas)), true
		}
		return o.UID, int(*orOne(o.Spec.Replicas)), true
	}
	return nil, 0, false
}

// budgetStatus counts, and returns when an eviction that was allowed is given up.
func budgetStatus(o *policyv1.PodDisruptionBudget, s *policyv1.PodDisruptionBudgetStatus, pods []*corev1.Pod, expected int, now time.Time) (after time.Duration) {
	byName := map[string]*corev1.Pod{}
	for _, p := range pods {
		byName[p.Name] = p
	}
	for name, at := range s.DisruptedPods {
		p := byName[name]
		left := at.Add(disruptedFor).Sub(now)
		if p == nil || p.DeletionTimestamp != nil || left <= 0 {
			delete(s.DisruptedPods, name)
		} else if after == 0 || left < after {
			after = left
		}
	}
	if len(s.DisruptedPods) == 0 {
		s.DisruptedPods = nil
	}
	healthy := 0
	for _, p := range pods {
		if _, goes := s.DisruptedPods[p.Name]; !goes && p.DeletionTimestamp == nil && api.IsPodReady(p) {
			healthy++
		}
	}
	desired := 0
	switch {
	case o.Spec.MaxUnavailable != nil:
		n, _ := intstr.GetScaledValueFromIntOrPercent(o.Spec.MaxUnavailable, expected, true) // validated
		desired = max(0, expected-n)
	case o.Spec.MinAvailable != nil:
		desired, _ = intstr.GetScaledValueFromIntOrPercent(o.Spec.MinAvailable, expected, true)
	}
	allowed := 0
	if expected > 0 {
		allowed = max(0, healthy-desired)
	}
	s.ExpectedPods, s.CurrentHealthy, s.DesiredHealthy, s.DisruptionsAllowed = int32(expected), int32(healthy), int32(desired), int32(allowed)
	s.ObservedGeneration = o.Generation
	if allowed > 0 {
		setAllowed(s, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", o.Generation, now)
	} else {
		setAllowed(s, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", o.Generation, now)
	}
	return after
}

func setAllowed(s *policyv1.PodDisruptionBudgetStatus, is metav1.ConditionStatus, reason, message string, generation int64, now time.Time) {
	s.Conditions = slices.Clone(s.Conditions)
	apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: is, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
	})
}
