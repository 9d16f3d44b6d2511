// Package simulate answers on paper where pods would run: why one is where it is or nowhere, what would happen if machines
// were lost, and whether more would fit. It takes the steps of the scheduler on a picture of its own and changes nothing.
// Used by the command line. Everything in it is pure.
package simulate

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// Objects are what a cluster has, as far as it matters for where pods run.
type Objects struct {
	Nodes      []*corev1.Node
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Services   []*corev1.Service
	Budgets    []*policyv1.PodDisruptionBudget
	Classes    []*schedulingv1.PriorityClass

	Claims         []*corev1.PersistentVolumeClaim
	Volumes        []*corev1.PersistentVolume
	StorageClasses []*storagev1.StorageClass
}

// Gather takes all of them from where list finds those of a kind.
func Gather(list func(*api.Kind) ([]api.Object, error)) (o Objects, err error) {
	err = errors.Join(
		gather(list, api.Nodes, &o.Nodes), gather(list, api.Pods, &o.Pods), gather(list, api.Namespaces, &o.Namespaces), gather(list, api.Services, &o.Services),
		gather(list, api.PodDisruptionBudgets, &o.Budgets), gather(list, api.PriorityClasses, &o.Classes),
		gather(list, api.PersistentVolumeClaims, &o.Claims), gather(list, api.PersistentVolumes, &o.Volumes), gather(list, api.StorageClasses, &o.StorageClasses),
	)
	return o, err
}

func gather[T api.Object](list func(*api.Kind) ([]api.Object, error), k *api.Kind, into *[]T) error {
	all, err := list(k)
	if err != nil {
		return err
	}
	for _, o := range all {
		*into = append(*into, o.(T))
	}
	return nil
}

// Paper is the picture. Not safe for concurrent use.
type Paper struct {
	cluster  *placement.Cluster
	nodes    map[string]*corev1.Node
	pods     map[types.UID]*corev1.Pod
	services map[string][]*corev1.Service
	budgets  []placement.Budget
	storage  storage
	made     int
}

// New draws the picture. Pods that have ended, and those without a Node, have no share of any.
func New(o Objects) *Paper {
	p := &Paper{
		cluster: placement.NewCluster(rand.New(rand.NewPCG(1, 1))), nodes: map[string]*corev1.Node{}, pods: map[types.UID]*corev1.Pod{},
		services: map[string][]*corev1.Service{}, budgets: placement.Budgets(o.Budgets), storage: newStorage(o),
	}
	for _, n := range o.Namespaces {
		p.cluster.SetNamespace(n.Name, n.Labels)
	}
	for _, s := range o.Services {
		p.services[s.Namespace] = append(p.services[s.Namespace], s)
	}
	for _, n := range o.Nodes {
		p.nodes[n.Name] = n
		p.cluster.SetNode(n)
	}
	for _, pod := range o.Pods {
		if pod.Spec.NodeName != "" && !api.IsPodTerminal(pod) {
			p.put(pod, pod.Spec.NodeName)
		}
	}
	return p
}

func (p *Paper) put(pod *corev1.Pod, node string) {
	p.pods[pod.UID] = pod
	p.cluster.Add(p.info(pod), node)
}

func (p *Paper) info(pod *corev1.Pod) *placement.Pod {
	return placement.NewPod(pod, placement.GroupOf(pod, p.services[pod.Namespace]))
}

// Why returns what the scheduler thinks of every node for a pod, the best first. One that has a Node is looked at as if it had
// none yet.
func (p *Paper) Why(pod *corev1.Pod) []placement.Verdict {
	p.cluster.Remove(pod.UID)
	free := pod.DeepCopy()
	free.Spec.NodeName = ""
	verdicts := p.cluster.Explain(p.info(free).With(p.volumes(free)))
	if _, ok := p.pods[pod.UID]; ok {
		p.cluster.Add(p.info(pod), pod.Spec.NodeName)
	}
	return verdicts
}

// Outcome is what would happen.
type Outcome struct {
	Lost   []string `json:"lost,omitempty"` // nodes
	Placed []Placed `json:"placed"`
	Stuck  []Placed `json:"stuck"` // those for which there is no room
	Gone   []Placed `json:"gone"`  // those that nobody replaces
}

// Placed is one pod's fate. To is empty when it finds no place, and Why says why.
type Placed struct {
	Pod  string `json:"pod"` // namespace/name
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	Why  string `json:"why,omitempty"`
}

// Lose takes nodes away for which gone holds, and places what ran there anew.
func (p *Paper) Lose(gone func(*corev1.Node) bool) Outcome {
	var out Outcome
	for name, n := range p.nodes {
		if gone(n) {
			out.Lost = append(out.Lost, name)
		}
	}
	slices.Sort(out.Lost)
	var homeless []*corev1.Pod
	for _, pod := range p.pods {
		if _, lost := slices.BinarySearch(out.Lost, pod.Spec.NodeName); lost {
			homeless = append(homeless, pod)
		}
	}
	for _, name := range out.Lost {
		p.cluster.RemoveNode(name)
		delete(p.nodes, name)
	}
	p.settle(&out, homeless)
	return out
}

// Fit places more pods, which need have neither names nor UIDs.
func (p *Paper) Fit(pods []*corev1.Pod) Outcome {
	var out Outcome
	for _, pod := range pods {
		p.made++
		pod.UID = types.UID(fmt.Sprint("simulated-", p.made))
	}
	p.settle(&out, pods)
	return out
}

// settle places pods, the most urgent first; those that have to make room for others are placed after them.
func (p *Paper) settle(out *Outcome, pods []*corev1.Pod) {
	order := func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(priority(b), priority(a)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(pods, order)
	for len(pods) > 0 {
		pod := pods[0]
		pods = pods[1:]
		p.cluster.Remove(pod.UID)
		delete(p.pods, pod.UID)
		fate := Placed{Pod: client.KeyOf(pod).String(), From: pod.Spec.NodeName}
		if why := irreplaceable(pod); why != "" && fate.From != "" {
			fate.Why = why
			out.Gone = append(out.Gone, fate)
			continue
		}
		victims := p.place(pod, &fate)
		if fate.To == "" {
			out.Stuck = append(out.Stuck, fate)
		} else {
			out.Placed = append(out.Placed, fate)
		}
		pods = append(pods, victims...)
		slices.SortStableFunc(pods, order)
	}
}

// place finds a node for a pod, if need be by having others leave, and returns those.
func (p *Paper) place(pod *corev1.Pod, fate *Placed) (victims []*corev1.Pod) {
	next := pod.DeepCopy()
	next.Spec.NodeName = ""
	info := p.info(next).With(p.volumes(next))
	n, why := p.cluster.Choose(info)
	if n == nil {
		fate.Why = why.Message()
		if next.Spec.PreemptionPolicy != nil && *next.Spec.PreemptionPolicy == corev1.PreemptNever {
			return nil
		}
		s := p.cluster.Preempt(info, p.budgets)
		if s == nil {
			return nil
		}
		n = s.Node
		var names []string
		for _, v := range s.Victims {
			names = append(names, v.Key.String())
			victims = append(victims, p.pods[v.UID])
			p.cluster.Remove(v.UID)
		}
		fate.Why = "in the place of " + strings.Join(names, ", ")
	}
	fate.To = n.Name
	next.Spec.NodeName = n.Name
	p.put(next, n.Name)
	return victims
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// irreplaceable says why nobody makes another one of a pod, if that is so.
func irreplaceable(pod *corev1.Pod) string {
	ref := metav1.GetControllerOf(pod)
	switch {
	case ref == nil:
		return "it has no controller that would make another one"
	case ref.Kind == "DaemonSet":
		return "its DaemonSet runs one on each node"
	}
	return ""
}
