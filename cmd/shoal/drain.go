package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

type cordonCmd struct {
	Nodes []string `arg:"" help:"The machines' names."`
}

func (c cordonCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return cordon(ctx, g, std, c.Nodes, true)
}

type uncordonCmd struct {
	Nodes []string `arg:"" help:"The machines' names."`
}

func (c uncordonCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return cordon(ctx, g, std, c.Nodes, false)
}

// cordon keeps new pods off machines, or lets them on again.
func cordon(ctx context.Context, g *Globals, std streams, nodes []string, is bool) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range nodes {
		errs = append(errs, conn.cordon(ctx, std, name, is))
	}
	return errors.Join(errs...)
}

func (c *conn) cordon(ctx context.Context, std streams, node string, is bool) error {
	node = strings.TrimPrefix(strings.TrimPrefix(node, "node/"), "nodes/")
	var n corev1.Node
	at := path(api.Nodes, "", node)
	if err := c.json(ctx, request{method: "GET", path: at}, &n); err != nil {
		return err
	}
	word := map[bool]string{true: "cordoned", false: "uncordoned"}[is]
	if n.Spec.Unschedulable == is {
		fmt.Fprintln(std.out, shown(api.Nodes, node), "is", word, "already")
		return nil
	}
	if err := c.patch(ctx, at, types.MergePatchType, fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, is)); err != nil {
		return err
	}
	fmt.Fprintln(std.out, shown(api.Nodes, node), word)
	return nil
}

type drainCmd struct {
	Node               string        `arg:"" help:"The machine's name."`
	IgnoreDaemonsets   bool          `help:"Leave the pods of DaemonSets, which would come back at once."`
	DeleteEmptydirData bool          `help:"Also pods whose emptyDir volumes are lost with them."`
	Force              bool          `help:"Also pods that nobody replaces."`
	GracePeriod        int64         `default:"-1" help:"Seconds a pod gets to end; -1 is the pod's own."`
	Timeout            time.Duration `help:"How long to wait in all; without it, as long as it takes."`
	DryRun             bool          `help:"Say what would go, and do nothing."`
}

// Run keeps new pods off a machine and evicts those that are there, as fast as their disruption budgets allow.
func (c drainCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	node := strings.TrimPrefix(strings.TrimPrefix(c.Node, "node/"), "nodes/")
	if !c.DryRun {
		if err := conn.cordon(ctx, std, node, true); err != nil {
			return err
		}
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not drained within %v", c.Timeout))
		defer cancel()
	}
	var l corev1.PodList
	if err := conn.json(ctx, request{method: "GET", path: path(api.Pods, "", ""), query: url.Values{"fieldSelector": {"spec.nodeName=" + node}}}, &l); err != nil {
		return err
	}
	leave, stay, err := c.sort(l.Items)
	for _, p := range stay {
		whose := "of a DaemonSet"
		if p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
			whose = "of a file on the machine"
		}
		fmt.Fprintf(std.err, "leaves %s/%s %s\n", p.Namespace, p.Name, whose)
	}
	if err != nil {
		return fmt.Errorf("%s is cordoned, and nothing was evicted:\n%w", shown(api.Nodes, node), err)
	}
	type result struct {
		pod corev1.Pod
		err error
	}
	var mu sync.Mutex
	say := func(format string, args ...any) { // who waits speaks up at any time
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(std.err, format, args...)
	}
	done := make(chan result)
	for _, p := range leave {
		if c.DryRun {
			fmt.Fprintf(std.out, "would evict pod %s/%s\n", p.Namespace, p.Name)
			continue
		}
		go func() { done <- result{p, c.evict(ctx, conn, say, p)} }()
	}
	if c.DryRun {
		return nil
	}
	var errs []error
	for range leave {
		r := <-done
		if r.err != nil {
			errs = append(errs, fmt.Errorf("pod %s/%s: %w", r.pod.Namespace, r.pod.Name, r.err))
			continue
		}
		fmt.Fprintf(std.out, "pod %s/%s evicted\n", r.pod.Namespace, r.pod.Name)
	}
	if len(errs) == 0 {
		fmt.Fprintln(std.out, shown(api.Nodes, node), "drained")
	}
	return errors.Join(errs...)
}

// sort tells the pods that go from those that stay. The error names each pod that should not go unasked, and the flag that asks for it.
func (c drainCmd) sort(pods []corev1.Pod) (leave, stay []corev1.Pod, err error) {
	var errs []error
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	for _, p := range pods {
		ref := metav1.GetControllerOf(&p)
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		scratch := slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil })
		refuse := func(why, flag string) {
			errs = append(errs, fmt.Errorf("pod %s/%s %s: give %s", p.Namespace, p.Name, why, flag))
		}
		switch {
		case p.Annotations[corev1.MirrorPodAnnotationKey] != "": // a file of the machine's own says that it runs
			stay = append(stay, p)
		case p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0:
		case ref != nil && ref.Kind == api.DaemonSets.Kind && !ended && c.IgnoreDaemonsets:
			stay = append(stay, p)
		case ref != nil && ref.Kind == api.DaemonSets.Kind && !ended:
			refuse("is of a DaemonSet and would come back at once", "--ignore-daemonsets to leave it")
		case ref == nil && !ended && !c.Force:
			refuse("has nobody who would replace it", "--force to lose it")
		case scratch && !ended && !c.DeleteEmptydirData:
			refuse("has an emptyDir", "--delete-emptydir-data to lose what is in it")
		default:
			leave = append(leave, p)
		}
	}
	return leave, stay, errors.Join(errs...)
}

// evict asks until the budget allows it, and waits until the pod is gone.
func (c drainCmd) evict(ctx context.Context, conn *conn, say func(string, ...any), p corev1.Pod) error {
	ev := policyv1.Eviction{
		TypeMeta:      metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
	}
	if c.GracePeriod >= 0 {
		ev.DeleteOptions.GracePeriodSeconds = &c.GracePeriod
	}
	body, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	for told := false; ; {
		var out json.RawMessage
		err := conn.json(ctx, request{method: "POST", path: path(api.Pods, p.Namespace, p.Name, "eviction"), ctype: "application/json", body: body}, &out)
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // another of its name, if any
			return nil
		case apierrors.IsTooManyRequests(err):
			if !told {
				say("pod %s/%s waits: %v\n", p.Namespace, p.Name, err)
				told = true
			}
			if err := conn.budgetsChange(ctx, p.Namespace); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			return conn.podGone(ctx, p)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// podGone waits until a pod, and not another of its name, is gone.
func (c *conn) podGone(ctx context.Context, p corev1.Pod) error {
	err := c.until(ctx, object{target: target{api.Pods, p.Name}, namespace: p.Namespace, uid: p.UID}, time.Time{}, nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// askAgain is how long a refusal stands when no budget changes: who refused may not be a budget.
const askAgain = 5 * time.Second

// budgetsChange waits until a budget of a namespace changes.
func (c *conn) budgetsChange(ctx context.Context, namespace string) error {
	one, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	var l policyv1.PodDisruptionBudgetList
	at := path(api.PodDisruptionBudgets, namespace, "")
	if err := c.json(ctx, request{method: "GET", path: at}, &l); err != nil {
		return err
	}
	if slices.ContainsFunc(l.Items, func(b policyv1.PodDisruptionBudget) bool { return b.Status.DisruptionsAllowed > 0 }) {
		return nil // it changed before we looked
	}
	resp, err := c.do(one, request{method: "GET", path: at, query: url.Values{"watch": {"true"}, "resourceVersion": {l.ResourceVersion}}})
	if err != nil {
		if one.Err() != nil && ctx.Err() == nil {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	var event json.RawMessage
	_ = json.NewDecoder(resp.Body).Decode(&event) // or the time is over
	return nil
}
