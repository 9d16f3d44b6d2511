package controller

import (
	"cmp"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"shoal/internal/api"
)

// failedRest is how old a pod that failed must be before it is replaced, so that one which fails at once does not fill the log. Kubernetes'
// pause grows with each failure, which no object tells.
const failedRest = 10 * time.Second

// daemonPlan is what a DaemonSet lacks and has too much of. It depends on its arguments alone.
type daemonPlan struct {
	set    *appsv1.DaemonSet
	hash   string // of the present template
	now    time.Time
	should []string                 // the Nodes that should have a pod
	may    map[string]bool          // those whose pods may stay besides
	on     map[string][]*corev1.Pod // the pods of each Node that have not been told to end, the oldest first
	ending map[string]bool          // Nodes with a pod that has

	create []string // the Nodes that get a pod now
	remove []*corev1.Pod
	after  time.Duration // when to look again, unless something happens; 0: never
}

func newDaemonPlan(ds *appsv1.DaemonSet, hash string, nodes []*corev1.Node, pods []*corev1.Pod, now time.Time) *daemonPlan {
	p := &daemonPlan{set: ds, hash: hash, now: now, may: map[string]bool{}, on: map[string][]*corev1.Pod{}, ending: map[string]bool{}}
	for _, n := range nodes {
		should, may := belongs(ds, n)
		if should {
			p.should = append(p.should, n.Name)
		}
		p.may[n.Name] = may
	}
	slices.Sort(p.should)
	for _, pod := range pods {
		node := nodeOf(pod)
		if pod.DeletionTimestamp != nil {
			p.ending[node] = true
			continue
		}
		p.on[node] = append(p.on[node], pod)
	}
	for _, pods := range p.on {
		slices.SortFunc(pods, func(a, b *corev1.Pod) int {
			return cmp.Or(before(a.Spec.NodeName != "", b.Spec.NodeName != ""), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	p.misplaced()
	for _, node := range p.should {
		p.one(node)
	}
	if ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		p.roll()
	}
	return p
}

// belongs reports whether a Node should have a pod of the set, and whether one that is there may stay: a taint that only keeps new ones off drives
// none away.
func belongs(ds *appsv1.DaemonSet, n *corev1.Node) (should, may bool) {
	spec := &ds.Spec.Template.Spec
	if spec.NodeName != "" && spec.NodeName != n.Name {
		return false, false
	}
	if fits, err := nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity).Match(n); err != nil || !fits {
		return false, false
	}
	tolerations := append(daemonTolerations(spec), spec.Tolerations...)
	should, may = true, true
	for _, taint := range n.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule || slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			return t.ToleratesTaint(klog.Background(), &taint, false)
		}) {
			continue
		}
		should = false
		may = may && taint.Effect != corev1.TaintEffectNoExecute
	}
	return should, may
}

// misplaced removes the pods of Nodes that should have none.
func (p *daemonPlan) misplaced() {
	for node, pods := range p.on {
		if !p.may[node] {
			p.remove = append(p.remove, pods...)
		}
	}
	slices.SortFunc(p.remove, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
}

func (p *daemonPlan) isNew(pod *corev1.Pod) bool {
	return pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.hash
}

// again asks for another look.
func (p *daemonPlan) again(in time.Duration) {
	if p.after == 0 || in < p.after {
		p.after = in
	}
}

// available reports whether a pod has been ready for long enough.
func (p *daemonPlan) available(pod *corev1.Pod) bool {
	wait, ready := availableIn(pod, time.Duration(p.set.Spec.MinReadySeconds)*time.Second, p.now)
	if ready && wait > 0 {
		p.again(wait)
	}
	return ready && wait == 0
}

// one sees to it that a Node has one pod, or an old and a new one during an update with surge.
func (p *daemonPlan) one(node string) {
	var alive []*corev1.Pod
	for _, pod := range p.on[node] {
		switch {
		case pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded:
			alive = append(alive, pod)
		case p.now.Sub(pod.CreationTimestamp.Time) < failedRest:
			p.again(failedRest - p.now.Sub(pod.CreationTimestamp.Time))
			alive = append(alive, pod)
		default:
			p.remove = append(p.remove, pod)
		}
	}
	surge, _ := p.bounds()
	kept := map[bool]bool{} // by whether it is of the present template
	var keep []*corev1.Pod
	for _, pod := range alive {
		is := p.isNew(pod)
		if kept[is] || surge == 0 && len(keep) > 0 {
			p.remove = append(p.remove, pod)
			continue
		}
		kept[is] = true
		keep = append(keep, pod)
	}
	p.on[node] = keep
	if len(keep) == 0 && (!p.ending[node] || surge > 0) {
		p.create = append(p.create, node)
	}
}

// bounds are how many Nodes may have a second pod during an update, and how many may be without one that is available.
func (p *daemonPlan) bounds() (surge, missing int) {
	u := p.set.Spec.UpdateStrategy
	if u.Type != appsv1.RollingUpdateDaemonSetStrategyType || u.RollingUpdate == nil {
		return 0, math.MaxInt
	}
	part := func(v *intstr.IntOrString) int {
		n, _ := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), len(p.should), true) // validated
		return n
	}
	surge, missing = part(u.RollingUpdate.MaxSurge), part(u.RollingUpdate.MaxUnavailable)
	if surge == 0 {
		missing = max(missing, 1)
	}
	return surge, missing
}

// roll replaces old pods: those that serve nobody at once, the others as far as the bounds allow.
func (p *daemonPlan) roll() {
	surge, missing := p.bounds()
	if surge > 0 {
		p.surge(surge)
		return
	}
	var serving []*corev1.Pod
	for _, node := range p.should {
		if len(p.on[node]) == 0 {
			missing--
			continue
		}
		switch pod := p.on[node][0]; {
		case p.isNew(pod):
			if !p.available(pod) {
				missing--
			}
		case !p.available(pod):
			missing--
			p.remove = append(p.remove, pod)
		default:
			serving = append(serving, pod)
		}
	}
	p.remove = append(p.remove, serving[:max(0, min(missing, len(serving)))]...)
}

// surge makes a new pod beside an old one, which goes when the new one is available.
func (p *daemonPlan) surge(most int) {
	var waiting []string
	for _, node := range p.should {
		var older, newer *corev1.Pod
		for _, pod := range p.on[node] {
			if p.isNew(pod) {
				newer = pod
			} else {
				older = pod
			}
		}
		switch {
		case older == nil:
		case newer != nil && p.available(newer):
			p.remove = append(p.remove, older)
		case !p.available(older): // nothing is lost by it
			p.remove = append(p.remove, older)
			if newer == nil {
				p.create = append(p.create, node)
			}
		case newer != nil:
			most--
		default:
			waiting = append(waiting, node)
		}
	}
	p.create = append(p.create, waiting[:max(0, min(most, len(waiting)))]...)
}

// status counts the Nodes by their oldest pod, as Kubernetes does.
func (p *daemonPlan) status() appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{ObservedGeneration: p.set.Generation, CollisionCount: p.set.Status.CollisionCount, Conditions: p.set.Status.Conditions}
	for _, node := range p.should {
		s.DesiredNumberScheduled++
		if len(p.on[node]) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		pod := p.on[node][0]
		if api.IsPodReady(pod) {
			s.NumberReady++
		}
		if p.available(pod) {
			s.NumberAvailable++
		}
		if p.isNew(pod) {
			s.UpdatedNumberScheduled++
		}
	}
	for node, pods := range p.on {
		if len(pods) > 0 && !slices.Contains(p.should, node) {
			s.NumberMisscheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}
