package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
)

// statefulPlan is what a StatefulSet's pods lack. It depends on its arguments alone.
type statefulPlan struct {
	set     *appsv1.StatefulSet
	history history
	before  *appsv1.ControllerRevision // what the pods had before the rollout under way; the present one when there is none
	now     time.Time
	all     []*corev1.Pod
	at      map[int]*corev1.Pod // by number
	start   int                 // the first number
	want    int                 // how many

	create []int
	remove []*corev1.Pod
	held   bool          // not all that are missing are made
	after  time.Duration // when to look again, unless something happens; 0: never
}

func newStatefulPlan(o *appsv1.StatefulSet, h history, pods []*corev1.Pod, now time.Time) *statefulPlan {
	p := &statefulPlan{set: o, history: h, before: h.current, now: now, all: pods, at: map[int]*corev1.Pod{}, want: int(*orOne(o.Spec.Replicas))}
	if o.Spec.Ordinals != nil {
		p.start = int(o.Spec.Ordinals.Start)
	}
	for _, r := range h.all {
		if r.Name == o.Status.CurrentRevision {
			p.before = r
		}
	}
	for _, pod := range pods {
		if n, is := ordinalOf(o, pod); is {
			p.at[n] = pod
		}
	}
	if p.fill() && p.shrink() && o.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		p.roll()
	}
	return p
}

// ordinalOf is the number in the name of one of a set's pods.
func ordinalOf(o *appsv1.StatefulSet, p *corev1.Pod) (int, bool) {
	text, is := strings.CutPrefix(p.Name, o.Name+"-")
	n, err := strconv.Atoi(text)
	return n, is && err == nil && n >= 0 && strconv.Itoa(n) == text
}

func (p *statefulPlan) within(n int) bool { return n >= p.start && n < p.start+p.want }

// inOrder reports whether each pod waits for the one before.
func (p *statefulPlan) inOrder() bool {
	return p.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// partition is the first number that gets the present template.
func (p *statefulPlan) partition() int {
	if u := p.set.Spec.UpdateStrategy.RollingUpdate; u != nil {
		return p.start + int(deref(u.Partition))
	}
	return p.start
}

func revisionOfPod(p *corev1.Pod) string { return p.Labels[appsv1.ControllerRevisionHashLabelKey] }

func hashOf(r *appsv1.ControllerRevision) string {
	return r.Labels[appsv1.ControllerRevisionHashLabelKey]
}

func healthy(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && api.IsPodReady(p)
}

// available reports whether a pod has been ready for long enough, and asks for another look when it will be.
func (p *statefulPlan) available(pod *corev1.Pod) bool {
	wait, ready := availableIn(pod, time.Duration(p.set.Spec.MinReadySeconds)*time.Second, p.now)
	if !ready || !healthy(pod) {
		return false
	}
	if wait > 0 && (p.after == 0 || wait < p.after) {
		p.after = wait
	}
	return wait == 0
}

// fill makes the pods that are missing, and reports whether the next step may follow.
func (p *statefulPlan) fill() bool {
	most := room(p.all)
	for n := p.start; n < p.start+p.want; n++ {
		pod := p.at[n]
		switch {
		case pod == nil && len(p.create) == most:
			p.held = true
			return false
		case pod == nil:
			p.create = append(p.create, n)
		case pod.DeletionTimestamp != nil: // its end brings us back
		case pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
			p.remove = append(p.remove, pod) // and then it is missing
		default:
			if !p.inOrder() || p.available(pod) {
				continue
			}
		}
		if p.inOrder() {
			return false
		}
	}
	return true
}

// shrink removes the pods beyond those that are wanted, the highest number first.
func (p *statefulPlan) shrink() bool {
	over := slices.Sorted(maps.Keys(p.at))
	slices.Reverse(over)
	for _, n := range over {
		if p.within(n) {
			continue
		}
		if pod := p.at[n]; pod.DeletionTimestamp == nil {
			p.remove = append(p.remove, pod)
		}
		if p.inOrder() {
			return false
		}
	}
	return true
}

// roll replaces pods of an old template from the highest number down to the partition, as many at a time as may be missing.
func (p *statefulPlan) roll() {
	missing := 1
	if u := p.set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.MaxUnavailable != nil {
		n, _ := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, p.want, true) // validated
		missing = max(1, n)
	}
	// In order, what is not available is waited for; else it may be what is to be replaced, and then nothing is lost by that.
	due := func(n int) bool {
		pod := p.at[n]
		return n >= p.partition() && pod != nil && pod.DeletionTimestamp == nil && revisionOfPod(pod) != p.history.hash()
	}
	for n := p.start; n < p.start+p.want; n++ {
		if pod := p.at[n]; (pod == nil || !p.available(pod)) && (p.inOrder() || !due(n)) {
			missing--
		}
	}
	for n := p.start + p.want - 1; n >= p.partition(); n-- {
		if !due(n) {
			continue
		}
		idle := !p.inOrder() && !p.available(p.at[n])
		if !idle && missing <= 0 {
			continue
		}
		if !idle {
			missing--
		}
		p.remove = append(p.remove, p.at[n])
	}
}

// newPod is the pod of a number, of the present template or, below the partition, of the one before.
func (p *statefulPlan) newPod(n int) (*corev1.Pod, error) {
	o, r := p.set, p.history.current
	if p.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && n < p.partition() {
		r = p.before
	}
	t, err := templateOf(r)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%d", o.Name, n), Namespace: o.Namespace, Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controllerRef(o, api.StatefulSets)},
		},
		Spec: t.Spec,
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.StatefulSetPodNameLabel], pod.Labels[appsv1.PodIndexLabel] = pod.Name, strconv.Itoa(n)
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = hashOf(r)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, o.Spec.ServiceName
	for _, t := range o.Spec.VolumeClaimTemplates {
		v := corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(o, &t, n)},
		}}
		pod.Spec.Volumes = append(slices.DeleteFunc(pod.Spec.Volumes, func(old corev1.Volume) bool { return old.Name == v.Name }), v)
	}
	return pod, nil
}

// status counts the pods, and calls a rollout done when all are of the present template and ready.
func (p *statefulPlan) status() appsv1.StatefulSetStatus {
	s := appsv1.StatefulSetStatus{
		ObservedGeneration: p.set.Generation, CollisionCount: p.set.Status.CollisionCount, Conditions: p.set.Status.Conditions,
		CurrentRevision: p.before.Name, UpdateRevision: p.history.current.Name,
	}
	for _, pod := range p.all {
		s.Replicas++
		if healthy(pod) {
			s.ReadyReplicas++
			if p.available(pod) {
				s.AvailableReplicas++
			}
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if revisionOfPod(pod) == hashOf(p.before) {
			s.CurrentReplicas++
		}
		if revisionOfPod(pod) == p.history.hash() {
			s.UpdatedReplicas++
		}
	}
	if p.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && int(s.UpdatedReplicas) == p.want &&
		int(s.ReadyReplicas) == p.want && int(s.Replicas) == p.want {
		s.CurrentRevision, s.CurrentReplicas = s.UpdateRevision, s.UpdatedReplicas
	}
	return s
}
