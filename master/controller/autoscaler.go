package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// autoscalers sets how many replicas the targets of HorizontalPodAutoscalers have, by what their pods use. While there is one, its
// pods' machines are asked every 15 s.
type autoscalers struct {
	Config
	queue client.Queue

	mu    sync.Mutex
	paces map[types.UID]*pace
}

const autoscalerName = "horizontal-pod-autoscaler"

// usagePatience is how long a machine has to say what it uses.
const usagePatience = 3 * time.Second

func newAutoscalers(c Config) loop {
	a := &autoscalers{Config: c, queue: client.NewQueue(), paces: map[types.UID]*pace{}}
	c.Caches.Autoscalers.OnChange(func(old, o *autoscalingv2.HorizontalPodAutoscaler) {
		if o == nil {
			a.mu.Lock()
			delete(a.paces, old.UID)
			a.mu.Unlock()
		}
		if old == nil || o == nil || old.Generation != o.Generation {
			a.queue.Add(client.KeyOf(cmp.Or(o, old)))
		}
	})
	return newLoop(autoscalerName, a.queue, 4, a.reconcile)
}

// pace returns what is remembered of an autoscaler, and whether that is new.
func (a *autoscalers) pace(uid types.UID) (*pace, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.paces[uid]
	if !ok {
		p = &pace{}
		a.paces[uid] = p
	}
	return p, !ok
}

// scaling is one look at one autoscaler: what it is, and what its status will say.
type scaling struct {
	*autoscalers
	o      *autoscalingv2.HorizontalPodAutoscaler
	status autoscalingv2.HorizontalPodAutoscalerStatus
	now    time.Time
}

func (a *autoscalers) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := a.Caches.Autoscalers.Get(key)
	if !ok || o.DeletionTimestamp != nil {
		return 0, nil
	}
	s := &scaling{autoscalers: a, o: o, status: *o.Status.DeepCopy(), now: a.Now()}
	s.status.ObservedGeneration = &o.Generation
	if err := s.scale(ctx); apierrors.IsConflict(err) {
		return 0, err // somebody else has just scaled it
	} else if err != nil {
		// It is in the conditions, and looked at again at the usual time.
		a.Log.Debug("autoscale", "ns", o.Namespace, "name", o.Name, "err", err)
	}
	return autoscaleEvery, errors.Join(ctx.Err(), updateStatus(ctx, a.Config, api.HorizontalPodAutoscalers, a.Caches.Autoscalers, o, func(o *autoscalingv2.HorizontalPodAutoscaler) { o.Status = s.status }))
}

func (s *scaling) scale(ctx context.Context) error {
	kind, err := s.targetKind()
	var scale *autoscalingv1.Scale
	if err == nil {
		scale, err = s.scaleOf(ctx, kind)
	}
	if err != nil {
		return s.failed(autoscalingv2.AbleToScale, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", err)
	}
	s.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := scale.Spec.Replicas
	s.status.CurrentReplicas = scale.Status.Replicas
	if current == 0 && deref(s.o.Spec.MinReplicas) != 0 {
		s.status.DesiredReplicas, s.status.CurrentMetrics = 0, nil
		s.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return nil
	}
	wanted, why, err := s.wanted(ctx, scale)
	if err != nil {
		s.status.DesiredReplicas = current
		return err
	}
	s.status.DesiredReplicas = wanted
	if wanted == current {
		return nil
	}
	if err := s.rescale(ctx, kind, scale, wanted); apierrors.IsConflict(err) {
		return err
	} else if err != nil {
		s.status.DesiredReplicas = current
		s.Events.EventFrom(autoscalerName, s.o, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", wanted, why, err)
		return s.failed(autoscalingv2.AbleToScale, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
	}
	pace, _ := s.pace(s.o.UID)
	pace.done = append(pace.done, moment{s.now, wanted - current})
	s.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", "the HPA controller was able to update the target scale to %d", wanted)
	s.status.LastScaleTime = &metav1.Time{Time: s.now}
	s.Events.EventFrom(autoscalerName, s.o, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", wanted, why)
	return nil
}

// targetKind is the kind that scaleTargetRef names.
func (s *scaling) targetKind() (*api.Kind, error) {
	ref := s.o.Spec.ScaleTargetRef
	for _, k := range []*api.Kind{api.ReplicationControllers, api.ReplicaSets, api.Deployments, api.StatefulSets} {
		if k.Kind == ref.Kind && (k.GroupVersion().String() == ref.APIVersion || ref.APIVersion == "") {
			return k, nil
		}
	}
	return nil, fmt.Errorf("no matches for kind %q in group version %q that counts replicas: use a Deployment, ReplicaSet, StatefulSet or ReplicationController", ref.Kind, ref.APIVersion)
}

func (s *scaling) scaleOf(ctx context.Context, k *api.Kind) (*autoscalingv1.Scale, error) {
	key := client.Key{Namespace: s.o.Namespace, Name: s.o.Spec.ScaleTargetRef.Name}
	o, err := s.Client.Get(ctx, k, key, client.GetOptions{Subresource: "scale", ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	scale, ok := o.(*autoscalingv1.Scale)
	if !ok {
		return nil, fmt.Errorf("the scale of %s is a %T", key, o)
	}
	return scale, nil
}

func (s *scaling) rescale(ctx context.Context, k *api.Kind, scale *autoscalingv1.Scale, n int32) error {
	scale = scale.DeepCopy()
	scale.Spec.Replicas = n
	_, err := s.Client.Update(ctx, k, scale, client.UpdateOptions{Subresource: "scale"})
	return err
}

// wanted is how many replicas there should be, and why another number than now.
func (s *scaling) wanted(ctx context.Context, scale *autoscalingv1.Scale) (int32, string, error) {
	current := scale.Spec.Replicas
	switch least, most := deref(s.o.Spec.MinReplicas), s.o.Spec.MaxReplicas; {
	case current > most:
		return most, "Current number of replicas above Spec.MaxReplicas", nil
	case current < least:
		return least, "Current number of replicas below Spec.MinReplicas", nil
	}
	n, metric, err := s.asked(ctx, scale)
	if err != nil {
		return 0, "", err
	}
	why := "All metrics below target"
	if n > current {
		why = metric + " above target"
	}
	rules := behaviorOf(s.o)
	pace, fresh := s.pace(s.o.UID)
	pace.forget(rules, s.now)
	if fresh {
		pace.recommended = append(pace.recommended, moment{s.now, current})
	}
	n, reason, message := pace.stabilize(rules, current, n, s.now)
	s.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, reason, "%s", message)
	n, reason, message = pace.limit(rules, s.o, current, n, s.now)
	if reason == "" {
		s.set(autoscalingv2.ScalingLimited, corev1.ConditionFalse, "DesiredWithinRange", "the desired count is within the acceptable range")
	} else {
		s.set(autoscalingv2.ScalingLimited, corev1.ConditionTrue, reason, "%s", message)
	}
	return n, why, nil
}

// asked is the highest number that a metric asks for. A metric that cannot be had speaks against fewer.
func (s *scaling) asked(ctx context.Context, scale *autoscalingv1.Scale) (int32, string, error) {
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil || selector.Empty() {
		return 0, "", s.failed(autoscalingv2.ScalingActive, "InvalidSelector", "the HPA target's scale is missing a selector")
	}
	if others := s.rivals(); len(others) > 0 {
		return 0, "", s.failed(autoscalingv2.ScalingActive, "AmbiguousSelector", "pods by selector %v are controlled by multiple HPAs: %v", selector, others)
	}
	pods := s.Caches.Pods.List(s.o.Namespace, selector)
	used := s.used(ctx, pods)
	var best, bad *proposal
	invalid := 0
	s.status.CurrentMetrics = make([]autoscalingv2.MetricStatus, 0, len(s.o.Spec.Metrics))
	for i := range s.o.Spec.Metrics {
		p := s.propose(&s.o.Spec.Metrics[i], scale, pods, used)
		if p.err != nil {
			invalid++
			bad = cmp.Or(bad, p)
			continue
		}
		s.status.CurrentMetrics = append(s.status.CurrentMetrics, p.status)
		if best == nil || p.replicas > best.replicas {
			best = p
		}
	}
	if best == nil || invalid > 0 && best.replicas < scale.Spec.Replicas {
		s.Events.EventFrom(autoscalerName, s.o, corev1.EventTypeWarning, bad.reason, "%v", bad.err)
		return 0, "", s.failed(autoscalingv2.ScalingActive, bad.reason, "the HPA was unable to compute the replica count: %v", bad.err)
	}
	s.set(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", best.metric)
	return best.replicas, best.metric, nil
}

// rivals are all autoscalers of the target, if there are others.
func (s *scaling) rivals() (names []string) {
	for _, o := range s.Caches.Autoscalers.List(s.o.Namespace, nil) {
		if o.Spec.ScaleTargetRef == s.o.Spec.ScaleTargetRef {
			names = append(names, client.KeyOf(o).String())
		}
	}
	if len(names) < 2 {
		return nil
	}
	slices.Sort(names)
	return names
}

// used asks the machines of the pods, all at once. One that does not answer is left out.
func (s *scaling) used(ctx context.Context, pods []*corev1.Pod) map[string]*api.Usage {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	used := map[string]*api.Usage{}
	var nodes []string
	for _, p := range pods {
		if _, ok := used[p.Spec.NodeName]; !ok && p.Spec.NodeName != "" && p.Status.Phase == corev1.PodRunning {
			used[p.Spec.NodeName] = nil
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	var mu sync.Mutex
	_ = each(ctx, nodes, func(ctx context.Context, node string) error {
		if s.Usage == nil {
			return nil
		}
		u, err := s.Usage(ctx, node)
		if err != nil {
			s.Log.Debug("no figures", "node", node, "err", err)
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		used[node] = u
		return nil
	})
	return used
}

// propose is what one metric asks for.
func (s *scaling) propose(m *autoscalingv2.MetricSpec, scale *autoscalingv1.Scale, pods []*corev1.Pod, used map[string]*api.Usage) *proposal {
	d := demand{current: scale.Spec.Replicas, pods: pods, now: s.now, tolerated: tolerancesOf(s.o.Spec.Behavior)}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		d.name, d.target = m.Resource.Name, m.Resource.Target
	case autoscalingv2.ContainerResourceMetricSourceType:
		d.name, d.container, d.target = m.ContainerResource.Name, m.ContainerResource.Container, m.ContainerResource.Target
	default:
		reason := map[autoscalingv2.MetricSourceType]string{
			autoscalingv2.PodsMetricSourceType: "FailedGetPodsMetric", autoscalingv2.ObjectMetricSourceType: "FailedGetObjectMetric",
			autoscalingv2.ExternalMetricSourceType: "FailedGetExternalMetric",
		}[m.Type]
		return &proposal{reason: cmp.Or(reason, "InvalidMetricSourceType"), err: fmt.Errorf("metrics of type %s come from an API for custom metrics, which is not served here: use Resource or ContainerResource", m.Type)}
	}
	p := &proposal{reason: "FailedGet" + string(m.Type) + "Metric"}
	if d.name != corev1.ResourceCPU && d.name != corev1.ResourceMemory {
		p.err = fmt.Errorf("how much of %s is used is not measured: use cpu or memory", d.name)
		return p
	}
	d.have = readings(pods, used, d.name, d.container)
	n, utilization, average, err := d.replicas()
	if err != nil {
		p.err = fmt.Errorf("failed to get %s utilization: %w", d.name, err)
		return p
	}
	p.replicas = n
	p.metric = string(d.name) + " resource"
	now := autoscalingv2.MetricValueStatus{AverageUtilization: utilization, AverageValue: quantityOf(d.name, average)}
	if utilization != nil {
		p.metric += " utilization (percentage of request)"
	}
	p.status = autoscalingv2.MetricStatus{Type: m.Type}
	if d.container == "" {
		p.status.Resource = &autoscalingv2.ResourceMetricStatus{Name: d.name, Current: now}
	} else {
		p.metric = strings.Replace(p.metric, "resource", "container resource", 1)
		p.status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: d.name, Container: d.container, Current: now}
	}
	return p
}

func quantityOf(name corev1.ResourceName, n int64) *resource.Quantity {
	if name == corev1.ResourceCPU {
		return resource.NewMilliQuantity(n, resource.DecimalSI)
	}
	return resource.NewQuantity(n, resource.DecimalSI)
}

// failed says so in a condition and returns the error.
func (s *scaling) failed(t autoscalingv2.HorizontalPodAutoscalerConditionType, reason, format string, args ...any) error {
	s.set(t, corev1.ConditionFalse, reason, format, args...)
	return fmt.Errorf(format, args...)
}

func (s *scaling) set(t autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, format string, args ...any) {
	c := autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: t, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), LastTransitionTime: metav1.NewTime(s.now),
	}
	for i := range s.status.Conditions {
		if old := &s.status.Conditions[i]; old.Type == t {
			if old.Status == status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.status.Conditions = append(s.status.Conditions, c)
}
