package controller

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// Defaults of kube-controller-manager's flags for the same.
const (
	autoscaleEvery   = 15 * time.Second // --horizontal-pod-autoscaler-sync-period
	scaleTolerance   = 0.1              // ...-tolerance
	cpuInitialized   = 5 * time.Minute  // ...-cpu-initialization-period
	initialReadiness = 30 * time.Second // ...-initial-readiness-delay
	scaleDownWindow  = 5 * time.Minute  // ...-downscale-stabilization
)

// reading is what a pod uses of one resource: of the CPU thousandths of a core, else as many as the resource has.
type reading struct {
	value  int64
	at     time.Time
	window time.Duration
}

// readings takes what the pods, or one container of each, use of a resource out of what their machines said. A pod of which
// a container is missing has none.
func readings(pods []*corev1.Pod, used map[string]*api.Usage, name corev1.ResourceName, container string) map[types.UID]reading {
	out := map[types.UID]reading{}
	for _, p := range pods {
		u := used[p.Spec.NodeName]
		if u == nil {
			continue
		}
		r, complete := reading{at: u.At, window: u.Window}, false
		for i := range p.Spec.Containers {
			c := p.Spec.Containers[i].Name
			if container != "" && c != container {
				continue
			}
			one, ok := u.Pods[p.UID][c]
			if complete = ok; !ok {
				break
			}
			if name == corev1.ResourceCPU {
				r.value += int64(one.NanoCores / 1e6)
			} else {
				r.value += int64(one.WorkingSet)
			}
		}
		if complete {
			out[p.UID] = r
		}
	}
	return out
}

// grouped says which pods' readings count.
type grouped struct {
	ready   int
	unready []*corev1.Pod // not ready, or too young for their use of CPU to mean anything
	missing []*corev1.Pod // without a reading
	ignored []*corev1.Pod // on their way out
}

func groupForScale(pods []*corev1.Pod, have map[types.UID]reading, name corev1.ResourceName, now time.Time) (g grouped) {
	for _, p := range pods {
		r, ok := have[p.UID]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed:
			g.ignored = append(g.ignored, p)
		case p.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, p)
		case !ok:
			g.missing = append(g.missing, p)
		case name == corev1.ResourceCPU && unsettled(p, r, now):
			g.unready = append(g.unready, p)
		default:
			g.ready++
		}
	}
	return g
}

// unsettled reports whether what p uses of the CPU does not tell what it will use: it starts, or it has never been ready.
func unsettled(p *corev1.Pod, r reading, now time.Time) bool {
	c := api.PodCondition(p, corev1.PodReady)
	if c == nil || p.Status.StartTime == nil {
		return true
	}
	if p.Status.StartTime.Add(cpuInitialized).After(now) {
		return c.Status == corev1.ConditionFalse || r.at.Before(c.LastTransitionTime.Add(r.window))
	}
	return c.Status == corev1.ConditionFalse && p.Status.StartTime.Add(initialReadiness).After(c.LastTransitionTime.Time)
}

// requestsOf is what each pod, or one container of each, requests of a resource.
func requestsOf(pods []*corev1.Pod, name corev1.ResourceName, container string) (map[types.UID]int64, error) {
	out := map[types.UID]int64{}
	for _, p := range pods {
		sum := int64(0)
		for i := range p.Spec.Containers {
			c := &p.Spec.Containers[i]
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, p.Name)
			}
			sum += amount(name, q)
		}
		out[p.UID] = sum
	}
	return out, nil
}

func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// proposal is how many replicas one metric asks for.
type proposal struct {
	replicas int32
	status   autoscalingv2.MetricStatus
	metric   string // as conditions call it
	err      error
	reason   string // of the condition, when err is set
}

// tolerances are how far, as a share, usage may be over and under its target without anything being done.
type tolerances struct{ up, down float64 }

func (t tolerances) within(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

func tolerancesOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerances {
	t := tolerances{scaleTolerance, scaleTolerance}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	return t
}

// demand is one metric of resources, with all that its proposal depends on.
type demand struct {
	name      corev1.ResourceName
	container string // empty: all of a pod's
	target    autoscalingv2.MetricTarget
	current   int32
	pods      []*corev1.Pod
	have      map[types.UID]reading
	now       time.Time
	tolerated tolerances
}

// replicas returns how many there should be by Kubernetes' algorithm
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details), what is used in percent of what is
// requested, if the target is of that kind, and on average.
func (d *demand) replicas() (n int32, utilization *int32, average int64, err error) {
	g := groupForScale(d.pods, d.have, d.name, d.now)
	counted := map[types.UID]int64{}
	for uid, r := range d.have {
		counted[uid] = r.value
	}
	for _, out := range [][]*corev1.Pod{g.ignored, g.unready} {
		for _, p := range out {
			delete(counted, p.UID)
		}
	}
	if len(counted) == 0 {
		return 0, nil, 0, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	var requests map[types.UID]int64
	if d.target.AverageUtilization != nil {
		if requests, err = requestsOf(d.pods, d.name, d.container); err != nil {
			return 0, nil, 0, err
		}
	}
	ratio, utilization, average, err := d.ratio(counted, requests)
	if err != nil {
		return 0, nil, 0, err
	}
	withUnready := len(g.unready) > 0 && ratio > 1
	if !withUnready && len(g.missing) == 0 {
		if d.tolerated.within(ratio) {
			return d.current, utilization, average, nil
		}
		return atMostInt32(math.Ceil(ratio * float64(g.ready))), utilization, average, nil
	}
	// Who does not say is taken for one that does not want the change.
	for _, p := range g.missing {
		switch {
		case ratio < 1:
			counted[p.UID] = d.whole(p, requests)
		case ratio > 1:
			counted[p.UID] = 0
		}
	}
	if withUnready {
		for _, p := range g.unready {
			counted[p.UID] = 0
		}
	}
	after, _, _, err := d.ratio(counted, requests)
	if err != nil {
		return 0, nil, 0, err
	}
	if d.tolerated.within(after) || ratio < 1 && after > 1 || ratio > 1 && after < 1 {
		return d.current, utilization, average, nil
	}
	n = atMostInt32(math.Ceil(after * float64(len(counted))))
	if after < 1 && n > d.current || after > 1 && n < d.current {
		n = d.current
	}
	return n, utilization, average, nil
}

// whole is what a pod without a reading is thought to use when it speaks against fewer: all it requests, or more if that is
// the target; or just the target.
func (d *demand) whole(p *corev1.Pod, requests map[types.UID]int64) int64 {
	if t := d.target.AverageUtilization; t != nil {
		return requests[p.UID] * int64(max(100, *t)) / 100
	}
	return amount(d.name, *d.target.AverageValue)
}

// ratio is what is used to what should be.
func (d *demand) ratio(used, requests map[types.UID]int64) (ratio float64, utilization *int32, average int64, err error) {
	var sum, requested int64
	n := int64(0)
	for uid, v := range used {
		if requests != nil {
			r, ok := requests[uid]
			if !ok {
				continue
			}
			requested += r
		}
		sum += v
		n++
	}
	if requests == nil {
		average = sum / n
		return float64(average) / float64(max(1, amount(d.name, *d.target.AverageValue))), nil, average, nil
	}
	if requested == 0 {
		return 0, nil, 0, errors.New("no metrics returned matched known pods")
	}
	percent := int32(sum * 100 / requested)
	return float64(percent) / float64(*d.target.AverageUtilization), &percent, sum / n, nil
}

func atMostInt32(f float64) int32 { return int32(min(f, math.MaxInt32)) }
