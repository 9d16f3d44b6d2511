package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// nodeLifecycle acts on what gossip says of a Node's machine. While the Node's own peer is silent it writes the Node's
// Ready condition in its stead, taints the Node, and after a grace evicts its pods. It never touches the status of
// Nodes, or of pods on Nodes, whose peer is alive: that is the peer's. Deadlines count from what gossip or the stored
// taint says, so a new Master starts no clock again.
type nodeLifecycle struct {
	Config
	queue   client.Queue
	started time.Time
	zones   zones
}

// sinceTeller is what a Liveness may also know: since when it believes what it believes.
type sinceTeller interface{ Since(node string) time.Time }

// steadyTeller is what a Liveness may also know: that a machine is there, and was not too often lately.
type steadyTeller interface{ Unsteady(node string) bool }

// taintUnsteady has pods avoid a Node that comes and goes, as long as others have room.
const taintUnsteady = "shoal/unsteady"

const (
	nodeLifecycleName = "node-controller"
	reasonUnknown     = "NodeStatusUnknown"
	reasonEvicted     = "DeletionByTaintManager"
)

func newNodeLifecycle(c Config) loop {
	l := &nodeLifecycle{Config: c, queue: client.NewQueue(), started: c.Now()}
	c.Caches.Nodes.OnChange(func(_, n *corev1.Node) {
		if n != nil {
			l.queue.Add(client.Key{Name: n.Name})
		}
	})
	c.Caches.Pods.OnChange(func(_, p *corev1.Pod) {
		if p != nil && p.Spec.NodeName != "" && c.Liveness.Liveness(p.Spec.NodeName) != api.Alive {
			l.queue.Add(client.Key{Name: p.Spec.NodeName})
		}
	})
	loop := newLoop(nodeLifecycleName, l.queue, 4, l.reconcile)
	loop.follow = l.follow
	return loop
}

// follow queues every Node whenever gossip changed its mind about any.
func (l *nodeLifecycle) follow(ctx context.Context) error {
	if err := l.Caches.WaitSynced(ctx); err != nil {
		return err
	}
	for {
		changed := l.Liveness.Changed()
		l.zones.set(l.look())
		for _, n := range l.Caches.Nodes.List("", nil) {
			l.queue.Add(client.Key{Name: n.Name})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look says whose turn it is now.
func (l *nodeLifecycle) look() map[string]time.Duration {
	return turns(l.Caches.Nodes.List("", nil), l.gone)
}

// outage is how long a Node has been without its peer.
type outage struct {
	since   time.Time
	evict   bool          // its pods are to be moved, each after its own toleration
	gone    bool          // nothing answers there, so its pods do not serve
	turn    time.Duration // how long it has to wait for others of its zone
	message string        // for people
}

func (l *nodeLifecycle) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	n, ok := l.Caches.Nodes.Get(key)
	if !ok {
		return 0, nil
	}
	now := l.Now()
	out, wait := l.judge(n, now)
	if out == nil {
		return wait, nil
	}
	if out.since.IsZero() {
		return 0, l.restore(ctx, n)
	}
	if out.gone {
		out.turn = l.zones.turn(n.Name, l.look)
	}
	if err := l.mark(ctx, n, out); err != nil {
		return 0, err
	}
	pods := l.Caches.Pods.ByIndex(byNode, n.Name)
	next, err := l.evict(ctx, n, pods, out, now)
	if wait == 0 || next > 0 && next < wait {
		wait = next
	}
	return wait, err
}

// judge decides what to make of the Node: nil to leave everything as it is, an outage of zero time when its peer is
// there, else the outage. A positive wait says when it may judge otherwise.
func (l *nodeLifecycle) judge(n *corev1.Node, now time.Time) (*outage, time.Duration) {
	live := l.Liveness.Liveness(n.Name)
	since := l.since(n, live == api.Gone, now)
	switch live {
	case api.Alive:
		return &outage{}, 0
	case api.Gone:
		return &outage{since: since, evict: true, gone: true, message: "The machine does not answer."}, 0
	case api.Silent, api.Left:
		message := "The peer does not answer, but its machine does."
		if live == api.Left {
			message = "The peer was stopped."
		}
		wait := since.Add(l.AgentGrace).Sub(now)
		return &outage{since: since, evict: wait <= 0, message: message}, max(0, wait)
	case api.Unknown:
		// Nobody here has ever seen it. An earlier Master may have judged it; else it gets time to appear.
		if t := unreachable(n, corev1.TaintEffectNoExecute); t != nil {
			return &outage{since: since, evict: true, gone: true, message: "The machine does not answer."}, 0
		}
		first := l.started
		if n.CreationTimestamp.After(first) {
			first = n.CreationTimestamp.Time
		}
		if wait := first.Add(l.AgentGrace).Sub(now); wait > 0 {
			return nil, wait
		}
		return &outage{since: since, evict: true, gone: true, message: "The machine was never seen by this Master."}, 0
	}
	return nil, 0 // Suspect: gossip will say more
}

// gone reports whether nothing answers at the Node's machine.
func (l *nodeLifecycle) gone(n *corev1.Node) bool {
	switch l.Liveness.Liveness(n.Name) {
	case api.Gone:
		return true
	case api.Unknown:
		return unreachable(n, corev1.TaintEffectNoExecute) != nil
	}
	return false
}

// since returns when the outage began. What is stored counts first, then what gossip knows; else it begins now. A
// machine that was only silent before it was gone is gone since gossip says so. What is stored was another Master's time, and if that is still to
// come here, one of the clocks is wrong and gossip alone can be believed.
func (l *nodeLifecycle) since(n *corev1.Node, gone bool, now time.Time) time.Time {
	if t := unreachable(n, corev1.TaintEffectNoExecute); t != nil && t.TimeAdded != nil && !t.TimeAdded.After(now) {
		return t.TimeAdded.Time
	}
	if c := nodeCondition(n, corev1.NodeReady); !gone && c != nil && c.Status == corev1.ConditionUnknown && !c.LastTransitionTime.IsZero() &&
		!c.LastTransitionTime.After(now) {
		return c.LastTransitionTime.Time
	}
	if s, ok := l.Liveness.(sinceTeller); ok {
		if t := s.Since(n.Name); !t.IsZero() && t.Before(now) {
			return t
		}
	}
	return now
}

// mark makes the Node show its outage.
func (l *nodeLifecycle) mark(ctx context.Context, n *corev1.Node, out *outage) error {
	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: reasonUnknown, Message: out.message,
		LastTransitionTime: metav1.NewTime(out.since), LastHeartbeatTime: metav1.NewTime(out.since),
	}
	n = n.DeepCopy()
	if old := nodeCondition(n, corev1.NodeReady); old == nil || old.Status != ready.Status || old.Message != ready.Message {
		was := old == nil || old.Status == corev1.ConditionTrue
		if old == nil {
			n.Status.Conditions = append(n.Status.Conditions, ready)
		} else {
			if old.Status == ready.Status {
				ready.LastTransitionTime = old.LastTransitionTime
			}
			ready.LastHeartbeatTime = old.LastHeartbeatTime
			*old = ready
		}
		updated, err := l.update(ctx, n, "status")
		if err != nil {
			return err
		}
		if was { // not again when only the reason is another one
			l.Events.EventFrom(nodeLifecycleName, n, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name)
		}
		n = updated.DeepCopy()
	}
	changed := addTaint(n, corev1.TaintEffectNoSchedule, out.since)
	if out.evict {
		changed = addTaint(n, corev1.TaintEffectNoExecute, out.since) || changed
	}
	if !changed {
		return nil
	}
	_, err := l.update(ctx, n, "")
	return err
}

// restore takes back what was done to a Node whose peer is there again. Its conditions, and those of its pods, are
// for the peer to write.
func (l *nodeLifecycle) restore(ctx context.Context, n *corev1.Node) error {
	notReady := false
	if c := nodeCondition(n, corev1.NodeReady); c == nil || c.Status != corev1.ConditionTrue {
		notReady = true
	}
	want := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeUnreachable || t.Key == taintUnsteady || t.Key == corev1.TaintNodeNotReady && !notReady ||
			pressed(n, t.Key) == corev1.ConditionFalse
	})
	if s, ok := l.Liveness.(steadyTeller); ok && s.Unsteady(n.Name) {
		want = append(want, corev1.Taint{Key: taintUnsteady, Effect: corev1.TaintEffectPreferNoSchedule})
	}
	if notReady && !slices.ContainsFunc(want, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }) {
		want = append(want, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, p := range pressures() {
		if pressed(n, p.taint) == corev1.ConditionTrue && !slices.ContainsFunc(want, func(t corev1.Taint) bool { return t.Key == p.taint }) {
			want = append(want, corev1.Taint{Key: p.taint, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if !slices.EqualFunc(want, n.Spec.Taints, func(a, b corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }) {
		n = n.DeepCopy()
		n.Spec.Taints = want
		if _, err := l.update(ctx, n, ""); err != nil {
			return err
		}
	}
	var w written
	err := each(ctx, l.Caches.Pods.ByIndex(byNode, n.Name), func(ctx context.Context, p *corev1.Pod) error {
		c := api.PodCondition(p, corev1.DisruptionTarget)
		if c == nil || c.Reason != reasonEvicted {
			return nil
		}
		p = p.DeepCopy()
		p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget
		})
		return l.writePod(ctx, p, &w)
	})
	return errors.Join(err, w.shown(ctx, l.Caches.Pods))
}

func (l *nodeLifecycle) update(ctx context.Context, n *corev1.Node, subresource string) (*corev1.Node, error) {
	obj, err := l.Client.Update(ctx, api.Nodes, n, client.UpdateOptions{Subresource: subresource})
	if apierrors.IsNotFound(err) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mark node: %w", err)
	}
	out, ok := obj.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("mark node: answer is a %T", obj)
	}
	return out, l.Caches.Nodes.WaitFor(ctx, out.ResourceVersion)
}

func nodeCondition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

type pressure struct {
	condition corev1.NodeConditionType
	taint     string
}

// pressures are what machines say they have too little of, and the taints that keep new pods away meanwhile.
func pressures() []pressure {
	return []pressure{
		{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure},
		{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
		{corev1.NodePIDPressure, corev1.TaintNodePIDPressure},
	}
}

// pressed is the state of the condition that a taint stands for; empty when it stands for none, or the machine does not say.
func pressed(n *corev1.Node, taint string) corev1.ConditionStatus {
	for _, p := range pressures() {
		if c := nodeCondition(n, p.condition); p.taint == taint && c != nil {
			return c.Status
		}
	}
	return ""
}

// unreachable returns the taint that says that the Node's peer is not there, or nil.
func unreachable(n *corev1.Node, effect corev1.TaintEffect) *corev1.Taint {
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.Key == corev1.TaintNodeUnreachable && t.Effect == effect {
			return t
		}
	}
	return nil
}

func addTaint(n *corev1.Node, effect corev1.TaintEffect, since time.Time) bool {
	if unreachable(n, effect) != nil {
		return false
	}
	added := metav1.NewTime(since)
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect, TimeAdded: &added})
	return true
}
