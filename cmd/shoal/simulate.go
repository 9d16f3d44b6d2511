package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/peer"
	"shoal/master/scheduler/simulate"
)

type simulateCmd struct {
	files
	Lose           []string `placeholder:"NODE|KEY=VALUE" help:"What if these machines were lost: a node's name, zone=NAME, or any label of nodes. May be given several times."`
	From           string   `placeholder:"BACKUP" type:"existingfile" help:"Ask about the cluster in a backup, and not the one that runs."`
	PassphraseFile string   `placeholder:"FILE" help:"With --from: the passphrase that the backup was made with. Asked for on a terminal by default."`
	IdentityFile   string   `placeholder:"FILE" help:"With --from: a private key that the backup was made for."`
	Output         string   `short:"o" placeholder:"FORM" enum:",json" default:"" help:"json, for programs."`
}

// errNoRoom ends the program as failed after the answer has been printed.
var errNoRoom = errors.New("not everything has a place")

// Run answers what would happen, changes nothing, and fails when a pod would find no place.
func (c simulateCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if len(c.Lose) == 0 && len(c.Filename) == 0 {
		return usagef("what if? shoal simulate --lose NODE, shoal simulate --lose zone=b, or shoal simulate -f FILE to see whether that would fit")
	}
	var more []manifest
	if len(c.Filename) > 0 {
		var err error
		if more, err = c.files.read(std.in); err != nil {
			return err
		}
	}
	objects, err := c.objects(ctx, g, std)
	if err != nil {
		return err
	}
	lost, err := c.lost(objects.Nodes)
	if err != nil {
		return err
	}
	var pods []*corev1.Pod
	for i := range more {
		if err := more[i].place(g, false); err != nil {
			return err
		}
		ps, err := podsOf(more[i], objects.Classes)
		if err != nil {
			return more[i].in(err)
		}
		pods = append(pods, ps...)
	}
	paper := simulate.New(objects)
	out := paper.Lose(func(n *corev1.Node) bool { return lost[n.Name] })
	fit := paper.Fit(pods)
	out.Placed, out.Stuck, out.Gone = append(out.Placed, fit.Placed...), append(out.Stuck, fit.Stuck...), append(out.Gone, fit.Gone...)
	if c.Output == "json" {
		err = encode(std.out, out)
	} else {
		err = c.tell(std, out, len(objects.Nodes))
	}
	if err == nil && len(out.Stuck) > 0 {
		err = errNoRoom
	}
	return err
}

// objects are those of the backup, or of the cluster that runs.
func (c simulateCmd) objects(ctx context.Context, g *Globals, std streams) (simulate.Objects, error) {
	if c.From != "" {
		plain, err := restoreCmd{File: c.From, PassphraseFile: c.PassphraseFile, IdentityFile: c.IdentityFile}.open(std)
		if err != nil {
			return simulate.Objects{}, err
		}
		return peer.Placed(plain)
	}
	conn, err := g.connect()
	if err != nil {
		return simulate.Objects{}, err
	}
	return conn.placed(ctx)
}

// lost is which of the nodes --lose means.
func (c simulateCmd) lost(nodes []*corev1.Node) (map[string]bool, error) {
	lost := map[string]bool{}
	for _, what := range c.Lose {
		key, value, isLabel := strings.Cut(what, "=")
		switch key {
		case "zone":
			key = corev1.LabelTopologyZone
		case "region":
			key = corev1.LabelTopologyRegion
		}
		found := false
		for _, n := range nodes {
			if v, ok := n.Labels[key]; isLabel && ok && v == value || !isLabel && n.Name == what {
				lost[n.Name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("--lose %s: no node is called that or has that label; see shoal get nodes --show-labels", what)
		}
	}
	return lost, nil
}

func (c simulateCmd) tell(std streams, out simulate.Outcome, nodes int) error {
	if len(out.Lost) > 0 {
		fmt.Fprintf(std.out, "Without %s (%d of %d nodes): ", strings.Join(out.Lost, ", "), len(out.Lost), nodes)
	}
	fmt.Fprintf(std.out, "%d pods would find a place, %d would not", len(out.Placed), len(out.Stuck))
	if len(out.Gone) > 0 {
		fmt.Fprintf(std.out, ", %d would be gone", len(out.Gone))
	}
	fmt.Fprint(std.out, ".\n\n")
	tw := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "POD\tFROM\tTO\tWHY")
	for _, list := range [][]simulate.Placed{out.Stuck, out.Gone, out.Placed} {
		for _, p := range list {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", p.Pod, orNone(p.From), orNone(p.To), p.Why)
		}
	}
	return tw.Flush()
}

// podsOf are the pods that an object of a file asks for.
func podsOf(m manifest, classes []*schedulingv1.PriorityClass) ([]*corev1.Pod, error) {
	o := m.kind.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m.object.Object, o); err != nil {
		return nil, err
	}
	if m.kind.Default != nil {
		m.kind.Default(o)
	}
	var template *corev1.PodTemplateSpec
	n := int32(1)
	switch o := o.(type) {
	case *corev1.Pod:
		template = &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	case *corev1.ReplicationController:
		template, n = o.Spec.Template, *o.Spec.Replicas
	case *appsv1.ReplicaSet:
		template, n = &o.Spec.Template, *o.Spec.Replicas
	case *appsv1.Deployment:
		template, n = &o.Spec.Template, *o.Spec.Replicas
	case *appsv1.StatefulSet:
		template, n = &o.Spec.Template, *o.Spec.Replicas
	case *batchv1.Job:
		template, n = &o.Spec.Template, *o.Spec.Parallelism
	default:
		return nil, nil // a Service, say, which needs no room
	}
	if template == nil {
		return nil, errors.New("spec.template: Required value")
	}
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		p := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
		p.Namespace, p.Name = o.GetNamespace(), o.GetName()
		if m.kind != api.Pods {
			p.Name = fmt.Sprintf("%s-%d", o.GetName(), i)
			p.OwnerReferences = []metav1.OwnerReference{{
				APIVersion: m.object.GetAPIVersion(), Kind: m.object.GetKind(), Name: o.GetName(), UID: types.UID(m.where), Controller: new(true),
			}}
		}
		api.Pods.Default(p)
		setPriority(p, classes)
		pods[i] = p
	}
	return pods, nil
}

// setPriority does what admission would do.
func setPriority(p *corev1.Pod, classes []*schedulingv1.PriorityClass) {
	for _, c := range classes {
		if p.Spec.PriorityClassName == c.Name || p.Spec.PriorityClassName == "" && c.GlobalDefault {
			p.Spec.Priority, p.Spec.PreemptionPolicy = &c.Value, c.PreemptionPolicy
		}
	}
}
