package controller

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
)

// Annotations that kubectl reads, and the Deployment controller writes.
const (
	revisionAnnotation        = "deployment.kubernetes.io/revision"         // of a ReplicaSet: which rollout made it; of a Deployment: the newest
	revisionHistoryAnnotation = "deployment.kubernetes.io/revision-history" // of a ReplicaSet: its revisions before, by commas
	desiredAnnotation         = "deployment.kubernetes.io/desired-replicas" // of a ReplicaSet: what its Deployment wanted when it was last looked at
	maxAnnotation             = "deployment.kubernetes.io/max-replicas"     // of a ReplicaSet: and how many there could be, with the surge
	rollbackAnnotation        = "deprecated.deployment.rollback.to"
)

// rollout is a Deployment with its ReplicaSets, as the caches have them. What it says depends on them alone.
type rollout struct {
	*appsv1.Deployment
	all     []*appsv1.ReplicaSet // the oldest first
	current *appsv1.ReplicaSet   // the one of the present template, the oldest if there are several; nil if there is none
	old     []*appsv1.ReplicaSet // the others
}

func newRollout(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *rollout {
	r := &rollout{Deployment: d, all: sortedByAge(sets)}
	for _, rs := range r.all {
		if r.current == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			r.current = rs
		} else {
			r.old = append(r.old, rs)
		}
	}
	return r
}

func labelsOf(o api.Object) labels.Set { return labels.Set(o.GetLabels()) }

// sameTemplate compares what was asked for: the hash is the controller's own.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	bare := func(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
		c := *t
		c.Labels = maps.Clone(t.Labels)
		delete(c.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		return c
	}
	return equality.Semantic.DeepEqual(bare(a), bare(b))
}

func (r *rollout) want() int32 { return *orOne(r.Spec.Replicas) }

// bounds returns how many pods there may be beyond what is wanted, and how many may be missing. Kubernetes rounds the first up and the
// second down, and lets one be missing where both would be nothing, so that a rollout can move.
func (r *rollout) bounds() (surge, missing int32) {
	if r.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return 0, 0
	}
	ru, want := r.Spec.Strategy.RollingUpdate, r.want()
	if ru == nil {
		ru = &appsv1.RollingUpdateDeployment{}
	}
	part := func(v *intstr.IntOrString, up bool) int32 {
		n, _ := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(want), up) // validated
		return int32(min(n, math.MaxInt32))
	}
	surge, missing = part(ru.MaxSurge, true), part(ru.MaxUnavailable, false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return surge, min(missing, want)
}

// size is what a ReplicaSet should become.
type size struct {
	set *appsv1.ReplicaSet
	to  int32
}

func wanted(sets ...*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += *orOne(rs.Spec.Replicas)
	}
	return n
}

// present is how many pods there may be: those that are to go, and have not yet, count.
func present(sets ...*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += max(wanted(rs), rs.Status.Replicas)
	}
	return n
}

// available is how many pods serve and will: those that are to go do not count, though a status may still have them.
func available(sets ...*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += min(wanted(rs), rs.Status.AvailableReplicas)
	}
	return n
}

// rollingStep is what can be done just now: first the new set grows, or shrinks to what is wanted; when it cannot, old pods go, those first that
// serve nobody anyway. Other than in Kubernetes, the bounds hold for the pods that there are, not only for the numbers that are asked for.
func (r *rollout) rollingStep() []size {
	surge, missing := r.bounds()
	want, have := r.want(), wanted(r.current)
	if have > want {
		return []size{{r.current, want}}
	}
	if grow := min(want+surge-present(r.all...), want-have); grow > 0 {
		return []size{{r.current, have + grow}}
	}
	least := want - missing
	// What the new set still lacks must not be taken from the old ones.
	spare := wanted(r.all...) - least - (have - available(r.current))
	if spare <= 0 {
		return nil
	}
	to := map[*appsv1.ReplicaSet]int32{}
	for _, rs := range r.old {
		n := wanted(rs)
		idle := min(spare, n-available(rs))
		to[rs], spare = n-idle, spare-idle
	}
	serving := available(r.all...) - least
	for _, rs := range r.old {
		less := min(max(0, serving), to[rs])
		to[rs], serving = to[rs]-less, serving-less
	}
	var sizes []size
	for _, rs := range r.old {
		if to[rs] != wanted(rs) {
			sizes = append(sizes, size{rs, to[rs]})
		}
	}
	return sizes
}

// active are the sets that want pods.
func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return wanted(rs) == 0 })
}

// scaled reports whether the number alone has changed since the ReplicaSets were last sized. When all pods are to end first, there are no shares.
func (r *rollout) scaled() bool {
	live := active(r.all)
	if r.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType && len(live) > 1 {
		return false
	}
	return slices.ContainsFunc(live, func(rs *appsv1.ReplicaSet) bool {
		n, err := strconv.ParseInt(rs.Annotations[desiredAnnotation], 10, 32)
		return err == nil && int32(n) != r.want()
	})
}

// rescaled are the sizes after the number has changed, or while the rollout is paused: the only set takes all; in the middle of a rollout each
// set gets its share of the change, so that the risk stays as it was.
func (r *rollout) rescaled() []size {
	want, live := r.want(), active(r.all)
	if len(live) < 2 {
		only := r.current
		switch {
		case len(live) == 1:
			only = live[0]
		case only == nil && len(r.old) > 0:
			only = r.old[len(r.old)-1]
		case only == nil:
			return nil
		}
		return []size{{only, want}}
	}
	if c := r.current; c != nil && wanted(c) == want && c.Status.AvailableReplicas == want && c.Annotations[desiredAnnotation] == strconv.Itoa(int(want)) {
		var sizes []size
		for _, rs := range active(r.old) {
			sizes = append(sizes, size{rs, 0})
		}
		return sizes
	}
	if r.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return nil
	}
	surge, _ := r.bounds()
	allowed := int32(0)
	if want > 0 {
		allowed = want + surge
	}
	change := allowed - wanted(live...)
	// The biggest first; of equal ones, those that should last: new ones when growing, old ones go last when shrinking.
	slices.SortStableFunc(live, func(a, b *appsv1.ReplicaSet) int {
		age := byAge(b, a)
		if change < 0 {
			age = -age
		}
		return cmp.Or(cmp.Compare(wanted(b), wanted(a)), age)
	})
	sizes, rest := make([]size, 0, len(live)), change
	for _, rs := range live {
		part := int32(0)
		if change != 0 {
			part = r.share(rs, surge)
			if change > 0 {
				part = min(max(part, 0), rest)
			} else {
				part = max(min(part, 0), rest)
			}
		}
		rest -= part
		sizes = append(sizes, size{rs, wanted(rs) + part})
	}
	sizes[0].to = max(0, sizes[0].to+rest)
	return sizes
}

// share is by how much a set would change in proportion.
func (r *rollout) share(rs *appsv1.ReplicaSet, surge int32) int32 {
	if r.want() == 0 {
		return -wanted(rs)
	}
	before, err := strconv.ParseInt(rs.Annotations[maxAnnotation], 10, 32)
	if err != nil || before <= 0 {
		before = int64(max(r.Status.Replicas, 1))
	}
	return int32(math.Round(float64(wanted(rs))*float64(r.want()+surge)/float64(before))) - wanted(rs)
}

// note writes into a copy of a set what its size was computed from, and reports whether that changed it.
func (r *rollout) note(rs *appsv1.ReplicaSet) bool {
	surge, _ := r.bounds()
	desired := annotate(rs, desiredAnnotation, strconv.Itoa(int(r.want())))
	return annotate(rs, maxAnnotation, strconv.Itoa(int(r.want()+surge))) || desired
}

func annotate(o api.Object, key, value string) bool {
	a := o.GetAnnotations()
	if a[key] == value {
		return false
	}
	if a == nil {
		a = map[string]string{}
	}
	a[key] = value
	o.SetAnnotations(a)
	return true
}

// revision is a set's, 0 if it has none.
func revision(o api.Object) int64 {
	n, _ := strconv.ParseInt(o.GetAnnotations()[revisionAnnotation], 10, 64)
	return n
}

// nextRevision is that of a set which becomes the current one now.
func (r *rollout) nextRevision() int64 {
	var newest int64
	for _, rs := range r.old {
		newest = max(newest, revision(rs))
	}
	return newest + 1
}

// historyMax is how long the list of a set's former revisions may get, as in Kubernetes.
const historyMax = 2000

// describe brings what a set has from its Deployment up to date in a copy of it: annotations, among them why it was made, and its revision.
func (r *rollout) describe(rs *appsv1.ReplicaSet) (changed bool) {
	for k, v := range r.Annotations {
		switch k {
		case corev1.LastAppliedConfigAnnotation, revisionAnnotation, revisionHistoryAnnotation, desiredAnnotation, maxAnnotation, rollbackAnnotation:
		default:
			changed = annotate(rs, k, v) || changed
		}
	}
	before := revision(rs)
	if next := r.nextRevision(); before < next {
		changed = annotate(rs, revisionAnnotation, strconv.FormatInt(next, 10)) || changed
		if before > 0 {
			history := strings.FieldsFunc(rs.Annotations[revisionHistoryAnnotation], func(c rune) bool { return c == ',' })
			history = append(history, strconv.FormatInt(before, 10))
			for len(strings.Join(history, ",")) > historyMax {
				history = history[1:]
			}
			annotate(rs, revisionHistoryAnnotation, strings.Join(history, ","))
		}
	}
	if rs.Spec.MinReadySeconds != r.Spec.MinReadySeconds {
		rs.Spec.MinReadySeconds, changed = r.Spec.MinReadySeconds, true
	}
	return changed
}

// forgotten are the oldest sets that are empty, beyond the last few that are kept to go back to.
func (r *rollout) forgotten(keep int) (sets []*appsv1.ReplicaSet) {
	there := slices.DeleteFunc(slices.Clone(r.old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	slices.SortStableFunc(there, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revision(a), revision(b)) })
	for _, rs := range there[:max(0, len(there)-keep)] {
		if wanted(rs) == 0 && rs.Status.Replicas == 0 && rs.Status.ObservedGeneration >= rs.Generation {
			sets = append(sets, rs)
		}
	}
	return sets
}
