package controller

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// daemons keeps a pod of each DaemonSet on every Node that it is for, and replaces them a few at a time when the template changes. The
// scheduler binds the pods, each of which is only for its Node.
type daemons struct {
	Config
	queue client.Queue
}

const daemonController = "daemonset-controller"

func newDaemons(c Config) loop {
	d := &daemons{Config: c, queue: client.NewQueue()}
	c.Caches.DaemonSets.OnChange(func(old, ds *appsv1.DaemonSet) { d.queue.Add(client.KeyOf(cmp.Or(ds, old))) })
	follow(c.Caches.Pods, wakeOwner(api.DaemonSets, d.queue.Add,
		selecting(c.Caches.DaemonSets, func(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector })))
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if old != nil && n != nil && maps.Equal(old.Labels, n.Labels) && equality.Semantic.DeepEqual(old.Spec.Taints, n.Spec.Taints) {
			return
		}
		for _, ds := range c.Caches.DaemonSets.List("", nil) {
			d.queue.Add(client.KeyOf(ds))
		}
	})
	return newLoop(daemonController, d.queue, 2, d.reconcile)
}

func (d *daemons) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	ds, ok := d.Caches.DaemonSets.Get(key)
	if !ok || ds.DeletionTimestamp != nil {
		return 0, nil // its pods are the garbage collector's
	}
	h, err := revise(ctx, d.Config, versioned{
		Object: ds, kind: api.DaemonSets, template: &ds.Spec.Template, selector: selectorOf(ds.Spec.Selector), collisions: ds.Status.CollisionCount,
	})
	if errors.Is(err, errCollision) {
		status := *ds.Status.DeepCopy()
		status.CollisionCount = new(deref(status.CollisionCount) + 1)
		return 0, d.writeStatus(ctx, ds, status)
	}
	if err != nil {
		return 0, err
	}
	pods, err := d.pods(ctx, ds)
	if err != nil {
		return 0, err
	}
	now := d.Now()
	p := newDaemonPlan(ds, h.hash(), d.Caches.Nodes.List("", nil), pods, now)
	workErr := d.act(ctx, ds, p)
	if workErr == nil {
		workErr = forgetRevisions(ctx, d.Config, h, ds.Spec.RevisionHistoryLimit, pods)
	}
	if len(p.create)+len(p.remove) > 0 {
		if pods, err = d.pods(ctx, ds); err != nil {
			return 0, errors.Join(workErr, err)
		}
		p = newDaemonPlan(ds, h.hash(), d.Caches.Nodes.List("", nil), pods, now)
	}
	status := p.status()
	return p.after, errors.Join(workErr, d.writeStatus(ctx, ds, status))
}

// pods are those that the set controls, after it has adopted those that match.
func (d *daemons) pods(ctx context.Context, ds *appsv1.DaemonSet) ([]*corev1.Pod, error) {
	selector := selectorOf(ds.Spec.Selector)
	mine, changed, err := claim(ctx, d.Config, api.DaemonSets, ds, api.Pods, d.Caches.Pods, func(p *corev1.Pod) (matches, adoptable bool) {
		return selector.Matches(labelsOf(p)), api.IsPodActive(p)
	})
	if changed {
		mine = d.Caches.Pods.ByIndex(byController, string(ds.UID))
	}
	return mine, err
}

// act makes and deletes pods, and returns when the cache shows it.
func (d *daemons) act(ctx context.Context, ds *appsv1.DaemonSet, p *daemonPlan) error {
	var w written
	remove := each(ctx, p.remove, func(ctx context.Context, pod *corev1.Pod) error {
		if pod.Status.Phase == corev1.PodFailed {
			d.Events.EventFrom(daemonController, ds, corev1.EventTypeWarning, "FailedDaemonPod", "Failed pod %s on node %s is replaced", pod.Name, nodeOf(pod))
		}
		if err := deleteObject(ctx, d.Client, api.Pods, pod, nil, &w); err != nil {
			return err
		}
		d.Events.EventFrom(daemonController, ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
		return nil
	})
	create := createAll(ctx, p.create, func(ctx context.Context, node string) error {
		return createPod(ctx, d.Config, daemonController, ds, newDaemonPod(ds, p.hash, node), &w)
	})
	if len(p.create)+len(p.remove) == 0 {
		return nil
	}
	return errors.Join(remove, create, w.shown(ctx, d.Caches.Pods))
}

func (d *daemons) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, status appsv1.DaemonSetStatus) error {
	return updateStatus(ctx, d.Config, api.DaemonSets, d.Caches.DaemonSets, ds, func(ds *appsv1.DaemonSet) { ds.Status = status })
}

// newDaemonPod is a set's pod for one Node: the scheduler may put it nowhere else, and it stays there through whatever befalls the Node.
func newDaemonPod(ds *appsv1.DaemonSet, hash, node string) *corev1.Pod {
	t := ds.Spec.Template.DeepCopy()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: ds.Name + "-", Namespace: ds.Namespace,
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controllerRef(ds, api.DaemonSets)},
		},
		Spec: t.Spec,
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	if g := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; g != "" {
		p.Labels["pod-template-generation"] = g
	}
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.NodeAffinity == nil {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// What the template asks of Nodes has been looked at already.
	p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}
	for _, t := range daemonTolerations(&ds.Spec.Template.Spec) {
		if !slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool { return o.MatchToleration(&t) }) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, t)
		}
	}
	return p
}

// daemonTolerations are those that Kubernetes gives every pod of a DaemonSet.
func daemonTolerations(spec *corev1.PodSpec) []corev1.Toleration {
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	all := []corev1.Toleration{
		exists(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute), exists(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule), exists(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule), exists(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
	}
	if spec.HostNetwork {
		all = append(all, exists(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))
	}
	return all
}

// nodeOf is the Node that a pod is on, or for.
func nodeOf(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range t.MatchFields {
				if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
					return f.Values[0]
				}
			}
		}
	}
	return ""
}
