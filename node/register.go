package node

import (
	"context"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// register creates the Node, or adopts the one that is there, and keeps what the node says of itself as it is. It writes
// when something changed, and when somebody else wrote otherwise; there are no heartbeats.
func (n *Node) register(ctx context.Context) error {
	retry := client.NewBackoff(50*time.Millisecond, 5*time.Second)
	var known *corev1.Node // as written or read last; nil: to be read
	settled := false
	for {
		why, changed := n.readiness()
		var err error
		if known == nil {
			known, err = n.findNode(ctx, why)
		}
		if err == nil && !settled {
			settled = true
			n.awaitReady(ctx)
			why, changed = n.readiness()
		}
		if err == nil {
			known, err = n.writeNode(ctx, known, why)
		}
		if err == nil {
			retry.Reset()
			if known, err = n.awaitNode(ctx, known, changed); err != nil {
				return err
			}
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		known = nil
		if apierrors.IsConflict(err) {
			continue // the Master wrote at the same moment: read it and write again
		}
		n.log.Warn("node not registered, will retry", "err", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// startGrace is how long a node that starts may take to be ready before it says that it is not: a restart is no outage.
const startGrace = 10 * time.Second

func (n *Node) awaitReady(ctx context.Context) {
	t := time.NewTimer(startGrace)
	defer t.Stop()
	for {
		why, changed := n.readiness()
		if why == "" {
			return
		}
		select {
		case <-changed:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// undoneWait holds back repeated writes: while a Master believes this machine gone it writes the opposite.
const undoneWait = time.Second

// awaitNode blocks until the node's readiness changes, or the stored Node is no longer as it was written. It returns the
// Node as it is then, nil when it must be read.
func (n *Node) awaitNode(ctx context.Context, known *corev1.Node, changed <-chan struct{}) (*corev1.Node, error) {
	for {
		select {
		case <-changed:
			return known, nil
		case <-n.poke:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		stored, ok := n.self.Get(client.Key{Name: n.cfg.Machine.Name})
		if ok && !newer(stored.ResourceVersion, known.ResourceVersion) {
			continue
		}
		why, _ := n.readiness()
		if ok && equality.Semantic.DeepEqual(n.nodeStatus(&stored.Status, why, n.cfg.Now()), &stored.Status) && n.labelled(stored) {
			known = stored
			continue
		}
		t := time.NewTimer(undoneWait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
		return nil, nil
	}
}

// findNode reads the Node, or creates it.
func (n *Node) findNode(ctx context.Context, why string) (*corev1.Node, error) {
	name := n.cfg.Machine.Name
	var o any
	var err error
	o, err = n.cfg.Client.Get(ctx, api.Nodes, client.Key{Name: name}, client.GetOptions{})
	if apierrors.IsNotFound(err) {
		fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: n.labels()}}
		fresh.Status = *n.nodeStatus(&corev1.NodeStatus{}, why, n.cfg.Now())
		if o, err = n.cfg.Client.Create(ctx, api.Nodes, fresh, client.CreateOptions{}); err == nil {
			n.log.Info("node registered", "node", name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("register node %s: %w", name, err)
	}
	node, ok := o.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("register node %s: answer is a %T", name, o)
	}
	return node, nil
}

// writeNode makes the stored Node say what is so, starting from known.
func (n *Node) writeNode(ctx context.Context, known *corev1.Node, why string) (*corev1.Node, error) {
	if !n.labelled(known) {
		node := known.DeepCopy()
		if node.Labels == nil {
			node.Labels = map[string]string{}
		}
		maps.Copy(node.Labels, n.labels())
		updated, err := n.updateNode(ctx, node, "")
		if err != nil {
			return nil, err
		}
		known = updated
	}
	s := n.nodeStatus(&known.Status, why, n.cfg.Now())
	if equality.Semantic.DeepEqual(s, &known.Status) {
		return known, nil
	}
	node := *known
	node.Status = *s
	return n.updateNode(ctx, &node, "status")
}

func (n *Node) updateNode(ctx context.Context, node *corev1.Node, subresource string) (*corev1.Node, error) {
	out, err := n.cfg.Client.Update(ctx, api.Nodes, node, client.UpdateOptions{Subresource: subresource})
	if err != nil {
		return nil, fmt.Errorf("update node %s: %w", node.Name, err)
	}
	updated, ok := out.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("update node %s: answer is a %T", node.Name, out)
	}
	return updated, nil
}

func (n *Node) labels() map[string]string {
	l := map[string]string{
		corev1.LabelHostname: n.cfg.Machine.Name, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
	}
	if z := n.cfg.Machine.Zone; z != "" {
		l[corev1.LabelTopologyZone] = z
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, v := range n.topology {
		if _, ours := l[k]; !ours {
			l[k] = v
		}
	}
	return l
}

func (n *Node) labelled(node *corev1.Node) bool {
	for k, v := range n.labels() {
		if node.Labels[k] != v {
			return false
		}
	}
	return true
}

// nodeStatus is what the Node's status should be, given what it is; times change with conditions only.
func (n *Node) nodeStatus(prev *corev1.NodeStatus, why string, now time.Time) *corev1.NodeStatus {
	s := prev.DeepCopy()
	s.Capacity, s.Allocatable = n.capacity(), n.allocatable()
	if held, known := n.imageList(); known {
		s.Images = held
	}
	s.Addresses = nil
	for _, ip := range n.cfg.Machine.Addresses {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.cfg.Machine.Name})
	s.NodeInfo = n.machine.info
	s.NodeInfo.ContainerRuntimeVersion = n.cfg.Machine.ContainerRuntime
	s.NodeInfo.KubeletVersion = n.cfg.Machine.Version
	s.NodeInfo.OperatingSystem, s.NodeInfo.Architecture = goruntime.GOOS, goruntime.GOARCH
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if why != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", why
	}
	for _, c := range append(n.pressureConditions(), ready) {
		setNodeCondition(s, c, now)
	}
	return s
}

func setNodeCondition(s *corev1.NodeStatus, c corev1.NodeCondition, now time.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = seconds(now), seconds(now)
	i := slices.IndexFunc(s.Conditions, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
	if i < 0 {
		s.Conditions = append(s.Conditions, c)
		return
	}
	old := &s.Conditions[i]
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
		if old.Reason == c.Reason && old.Message == c.Message {
			c.LastHeartbeatTime = old.LastHeartbeatTime
		}
	}
	*old = c
}
