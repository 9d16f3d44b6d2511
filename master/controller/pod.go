package controller

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

// availableIn returns how long it takes until p has been ready for minReady; zero means it is available. A pod that is
// not ready has no such time: ok is false.
func availableIn(p *corev1.Pod, minReady time.Duration, now time.Time) (d time.Duration, ok bool) {
	c := api.PodCondition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return 0, false
	}
	return max(0, c.LastTransitionTime.Add(minReady).Sub(now)), true
}

// rankForDeletion orders pods so that the first is the one least missed, as Kubernetes does: unassigned, pending, not
// ready, cheap by annotation, sharing its node with more of the others, ready for a shorter time, restarted more
// often, younger. Other than there, a pod shares its node only with those that stay longer, so that however many go,
// what is left is spread evenly. related are all that share the nodes, pods included.
func rankForDeletion(pods, related []*corev1.Pod) {
	rankYoungestFirst(pods)
	staying := map[string]int{}
	for _, p := range related {
		staying[p.Spec.NodeName]++
	}
	sharing := make(map[*corev1.Pod]int, len(pods))
	for _, p := range pods {
		staying[p.Spec.NodeName]--
		sharing[p] = staying[p.Spec.NodeName]
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(compareUse(a, b), -cmp.Compare(sharing[a], sharing[b]), compareAge(a, b))
	})
}

// rankYoungestFirst is rankForDeletion wherever pods are.
func rankYoungestFirst(pods []*corev1.Pod) {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Or(compareUse(a, b), compareAge(a, b)) })
}

func compareUse(a, b *corev1.Pod) int {
	return cmp.Or(
		before(a.Spec.NodeName == "", b.Spec.NodeName == ""),
		cmp.Compare(phaseRank(a), phaseRank(b)),
		before(!api.IsPodReady(a), !api.IsPodReady(b)),
		cmp.Compare(deletionCost(a), deletionCost(b)),
	)
}

func compareAge(a, b *corev1.Pod) int {
	return cmp.Or(
		-compareTimes(readySince(a), readySince(b)),
		-cmp.Compare(restarts(a), restarts(b)),
		-compareTimes(a.CreationTimestamp, b.CreationTimestamp),
		cmp.Compare(a.Name, b.Name),
	)
}

// before orders true ahead of false.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func deletionCost(p *corev1.Pod) int {
	n, _ := strconv.Atoi(p.Annotations[corev1.PodDeletionCost])
	return n
}

func readySince(p *corev1.Pod) metav1.Time {
	if c := api.PodCondition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime
	}
	return metav1.Time{}
}

func restarts(p *corev1.Pod) int32 {
	var most int32
	for _, s := range p.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	return most
}

// compareTimes orders by time; an unknown time is the latest.
func compareTimes(a, b metav1.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b.Time)
}
