package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/node/pressure"
)

// lookEvery is how often the machine looks at what it has left. The kernel tells of no disk that fills up, nor of a directory that grows: this is the
// one thing here that has to be looked at. It is the kubelet's period.
const lookEvery = 10 * time.Second

// lookSoon is when it looks again after it has ended a pod.
const lookSoon = time.Second

// pressureHolds is for how long a machine goes on saying that it has too little of something once it has enough
// (evictionPressureTransitionPeriod).
const pressureHolds = 5 * time.Minute

// victimGone is how long a pod that was told to end holds up the next one.
const victimGone = 30 * time.Second

// measureShare bounds what measuring costs: a pod that takes t to walk through is walked through again after measureShare·t.
const measureShare = 50

// wants is what the machine has, or lately had, too little of.
type wants struct {
	last   map[pressure.Resource]time.Time
	victim types.UID
	ended  time.Time
}

// watchPressure ends pods, when the machine has too little of something or they take more than their limit, until ctx ends.
func (n *Node) watchPressure(ctx context.Context) error {
	if n.cfg.Thresholds == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	w := &wants{last: map[pressure.Resource]time.Time{}}
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		n.checkLimits(ctx)
		t.Reset(n.relieve(ctx, w))
	}
}

// relieve does one thing about what there is too little of, and returns when to look again.
func (n *Node) relieve(ctx context.Context, w *wants) time.Duration {
	now := n.cfg.Now()
	have := n.cfg.Levels(n.cfg.Dir)
	short := slices.Contains(pressure.Low(have, n.cfg.Thresholds), pressure.Disk)
	if n.freeImages(ctx, have[pressure.Disk], short) {
		have = n.cfg.Levels(n.cfg.Dir)
	}
	low := pressure.Low(have, n.cfg.Thresholds)
	for _, r := range low {
		w.last[r] = now
	}
	var pressed []pressure.Resource
	for _, r := range pressure.All() {
		if at, ok := w.last[r]; ok && now.Sub(at) < pressureHolds {
			pressed = append(pressed, r)
		}
	}
	n.setPressed(pressed)
	if len(low) == 0 {
		return lookEvery
	}
	if w.victim != "" && n.pods.holds(w.victim) && now.Sub(w.ended) < victimGone {
		return lookSoon
	}
	w.victim = ""
	r := low[0]
	victim := pressure.Victim(r, n.weigh(ctx, r))
	if victim == nil {
		n.log.Warn("the machine has too little, and no pod that could go for it", "of", r, "available", have[r].Available, "threshold", n.cfg.Thresholds[r].Of(have[r].Capacity))
		return lookEvery
	}
	message := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. The pod was using %s, its requests are %s.", r,
		amountOf(r, n.cfg.Thresholds[r].Of(have[r].Capacity)), amountOf(r, have[r].Available), amountOf(r, victim.Used[r]), amountOf(r, victim.Requested[r]))
	n.pods.evict(victim.UID, message)
	w.victim, w.ended = victim.UID, now
	return lookSoon
}

// amountOf is a number as people read it.
func amountOf(r pressure.Resource, n int64) string {
	if r == pressure.Memory || r == pressure.Disk {
		return fmt.Sprintf("%dKi", n>>10)
	}
	return fmt.Sprint(n)
}

// checkLimits ends pods that have written more than their limit of ephemeral storage. Only those that have such a limit are measured.
func (n *Node) checkLimits(ctx context.Context) {
	next := map[types.UID]time.Time{}
	for _, p := range n.pods.List() {
		if api.IsPodTerminal(p) || p.DeletionTimestamp != nil || !hasDiskLimit(p) {
			continue
		}
		begun := n.cfg.Now()
		if due, ok := n.measured[p.UID]; ok && begun.Before(due) {
			next[p.UID] = due
			continue
		}
		t, err := n.measure(ctx, p)
		next[p.UID] = begun.Add(measureShare * n.cfg.Now().Sub(begun))
		if err != nil {
			n.log.Debug("a pod's use of the disk is not known", "pod", p.Name, "ns", p.Namespace, "err", err)
			continue
		}
		if message := overLimit(p, t); message != "" {
			n.pods.evict(p.UID, message)
		}
	}
	n.measured = next
}

func hasDiskLimit(p *corev1.Pod) bool {
	limited := func(c *corev1.Container) bool { return !c.Resources.Limits.StorageEphemeral().IsZero() }
	for i := range p.Spec.Volumes {
		if e := p.Spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
			return true
		}
	}
	for i := range p.Spec.Containers {
		if limited(&p.Spec.Containers[i]) {
			return true
		}
	}
	return false
}

// overLimit says which limit of ephemeral storage a pod is over, if it is; in the kubelet's words, which people look for.
func overLimit(p *corev1.Pod, t takes) string {
	over := func(used int64, limit *resource.Quantity) bool {
		return limit != nil && limit.Sign() > 0 && used > limit.Value()
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.EmptyDir != nil && over(t.volumes[v.Name].Bytes, v.EmptyDir.SizeLimit) {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q.", v.Name, v.EmptyDir.SizeLimit)
		}
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if limit := c.Resources.Limits.StorageEphemeral(); over(t.containers[c.Name].Bytes, limit) {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q.", c.Name, limit)
		}
	}
	everyone := !slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Resources.Limits.StorageEphemeral().IsZero() })
	limits := api.PodLimits(p)
	if limit := limits.StorageEphemeral(); everyone && over(t.sum.Bytes, limit) {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s.", limit)
	}
	return ""
}

// evict has a pod end for good, at once.
func (s *pods) evict(uid types.UID, message string) {
	s.mu.Lock()
	w := s.workers[uid]
	s.mu.Unlock()
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.evicted != "" {
		return
	}
	w.evicted = message
	w.event(w.pod, corev1.EventTypeWarning, reasonEvicted, "%s", message)
	if w.interrupt != nil {
		w.interrupt()
	}
	wake(w.poke)
}

// holds reports whether a pod has not given back yet what it has of the machine.
func (s *pods) holds(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.claims[uid]
	return ok
}

// reasonEvicted is the reason of a pod's status, and of the Event.
const reasonEvicted = "Evicted"

// setPressed notes what the Node's conditions say from now on.
func (n *Node) setPressed(pressed []pressure.Resource) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.pressed, pressed) {
		n.pressed = pressed
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

func (n *Node) pressedFor() []pressure.Resource {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pressed
}

// pressureConditions are the Node's conditions about what it has too little of.
func (n *Node) pressureConditions() []corev1.NodeCondition {
	pressed := n.pressedFor()
	one := func(t corev1.NodeConditionType, is bool, reason, message, fineReason, fineMessage string) corev1.NodeCondition {
		if is {
			return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message}
		}
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: fineReason, Message: fineMessage}
	}
	return []corev1.NodeCondition{
		one(corev1.NodeMemoryPressure, slices.Contains(pressed, pressure.Memory),
			"KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		one(corev1.NodeDiskPressure, slices.Contains(pressed, pressure.Disk) || slices.Contains(pressed, pressure.Inodes),
			"KubeletHasDiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		one(corev1.NodePIDPressure, slices.Contains(pressed, pressure.PIDs),
			"KubeletHasInsufficientPID", "kubelet has insufficient PID available", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
	}
}

// tooLittleFor says why the machine takes no such pod now; empty when it does. Where only memory is short, those that asked for some still come.
func (n *Node) tooLittleFor(p *corev1.Pod) string {
	if isCritical(p) {
		return ""
	}
	var bad []corev1.NodeConditionType
	for _, c := range n.pressureConditions() {
		if c.Status == corev1.ConditionTrue {
			bad = append(bad, c.Type)
		}
	}
	if len(bad) == 0 || len(bad) == 1 && bad[0] == corev1.NodeMemoryPressure && (api.QOSClass(p) != corev1.PodQOSBestEffort || tolerates(p, corev1.TaintNodeMemoryPressure)) {
		return ""
	}
	return fmt.Sprintf("The node had condition: %v.", bad)
}

func tolerates(p *corev1.Pod, taint string) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Key == taint || t.Key == "" && t.Operator == corev1.TolerationOpExists) && (t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
	})
}
