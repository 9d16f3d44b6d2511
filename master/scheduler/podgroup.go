package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
)

// Pods of one group are given nodes all at once or not at all: so many as the group needs to be of use. Their labels say so, by the names of
// Kubernetes' coscheduling plugin. A group is of one namespace. No other pods are told to go for one.
const (
	groupLabel = "pod-group.scheduling.sigs.k8s.io/name"
	leastLabel = "pod-group.scheduling.sigs.k8s.io/min-available"
)

// podGroup is the group of a pod, and how many of it there must be; empty when it is in none.
func podGroup(p *corev1.Pod) (name string, least int) {
	name = p.Labels[groupLabel]
	if name == "" {
		return "", 0
	}
	least, err := strconv.Atoi(p.Labels[leastLabel])
	if err != nil || least < 2 {
		return "", 0 // one alone is no group
	}
	return p.Namespace + "/" + name, least
}

// decideGroup finds nodes for all pods of it's group that wait for one, if there are enough of them, and enough of them fit; else for none. Caller
// holds mu.
func (s *Scheduler) decideGroup(it *item, now time.Time) []*decision {
	_, least := podGroup(it.pod)
	members := slices.DeleteFunc(s.queue.waiting(it.group), func(m *item) bool { return s.picture.Where(m.pod.UID) != "" }) // those are on their way
	placed := s.placed(it.pod)
	if n := placed + len(members); n < least {
		return s.refuse(members, fmt.Sprintf("the pods of group %q run together, %d of them at least: there are %d", it.pod.Labels[groupLabel], least, n), now)
	}
	var found []*decision
	var without []*item
	failure := ""
	for _, m := range members {
		n, why := s.choose(m)
		if n == nil {
			without = append(without, m)
			failure = cmp.Or(failure, why.Message())
			continue
		}
		found = append(found, s.take(m, n))
	}
	if n := placed + len(found); n < least {
		for _, d := range found {
			s.storage.release(d)
			s.picture.Remove(d.pod.UID)
		}
		return s.refuse(members, fmt.Sprintf("the pods of group %q run together, %d of them at least: %d would fit; %s", it.pod.Labels[groupLabel], least, n, failure), now)
	}
	for _, d := range found {
		s.queue.set(d.item, binding)
		s.moved(d.item.info)
	}
	return append(found, s.refuse(without, failure, now)...)
}

// refuse has pods wait for a change that helps, and say why.
func (s *Scheduler) refuse(members []*item, failure string, now time.Time) (out []*decision) {
	for _, m := range members {
		s.queue.failed(m, true, now)
		out = append(out, &decision{item: m, pod: m.pod, failure: failure})
	}
	return out
}

// placed is how many pods of p's group have a node, or are about to.
func (s *Scheduler) placed(p *corev1.Pod) (n int) {
	for _, o := range s.cfg.Pods.List(p.Namespace, labels.SelectorFromSet(labels.Set{groupLabel: p.Labels[groupLabel]})) {
		if !api.IsPodTerminal(o) && o.DeletionTimestamp == nil && s.picture.Where(o.UID) != "" {
			n++
		}
	}
	return n
}

// waiting are the pods of a group that have no node, the oldest first.
func (q *queue) waiting(group string) []*item {
	var out []*item
	for _, it := range q.groups[group] {
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b *item) int {
		return cmp.Or(cmp.Compare(b.info.Priority, a.info.Priority), cmp.Compare(a.seq, b.seq))
	})
	return out
}
