package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
	"shoal/master/scheduler/simulate"
)

type whyCmd struct {
	Pod    string `arg:"" help:"The pod's name."`
	Output string `short:"o" placeholder:"FORM" enum:",json" default:"" help:"json, for programs."`
}

// Run says where a pod is, or why it is nowhere, and what the scheduler thinks of each node for it now.
func (c whyCmd) Run(ctx context.Context, g *Globals, std streams) error {
	name := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(c.Pod, "pods/"), "pod/"), "po/")
	conn, err := g.connect()
	if err != nil {
		return err
	}
	o, err := conn.api.Get(ctx, api.Pods, client.Key{Namespace: g.Namespace, Name: name}, client.GetOptions{})
	if err != nil {
		return err
	}
	pod := o.(*corev1.Pod)
	objects, err := conn.placed(ctx)
	if err != nil {
		return err
	}
	verdicts := simulate.New(objects).Why(pod)
	if c.Output == "json" {
		return encode(std.out, struct {
			Pod   string              `json:"pod"`
			Node  string              `json:"node,omitempty"`
			Says  string              `json:"says"`
			Nodes []placement.Verdict `json:"nodes"`
		}{client.KeyOf(pod).String(), pod.Spec.NodeName, state(pod), verdicts})
	}
	fmt.Fprintf(std.out, "Pod %s %s.\n", client.KeyOf(pod), state(pod))
	if len(verdicts) == 0 {
		return errors.New("there are no nodes: a peer whose config has [node] enabled makes one")
	}
	fmt.Fprintln(std.out)
	return printVerdicts(std.out, verdicts, pod.Spec.NodeName)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// state says how far a pod has come towards a node, and what it waits for.
func state(p *corev1.Pod) string {
	scheduled := api.PodCondition(p, corev1.PodScheduled)
	switch {
	case api.IsPodTerminal(p):
		return "has ended (" + string(p.Status.Phase) + "), on " + orNone(p.Spec.NodeName)
	case p.DeletionTimestamp != nil:
		return "is about to end, on " + orNone(p.Spec.NodeName)
	case p.Spec.NodeName != "":
		return "is on " + p.Spec.NodeName
	case p.Spec.SchedulerName != "" && p.Spec.SchedulerName != corev1.DefaultSchedulerName:
		return "waits for a scheduler called " + p.Spec.SchedulerName + ", which is not this one: see its spec.schedulerName"
	case len(p.Spec.SchedulingGates) > 0:
		return "is held back by its scheduling gate " + p.Spec.SchedulingGates[0].Name + " until somebody removes that"
	case p.Status.NominatedNodeName != "":
		return "waits until less urgent pods have left " + p.Status.NominatedNodeName
	case scheduled != nil && scheduled.Message != "":
		return "is pending: " + strings.TrimSuffix(scheduled.Message, ".")
	}
	return "is pending and has not been looked at: is there a Master? See shoal status"
}

// printVerdicts prints a table of the nodes, the best first, with what each is worth and why, or what it objects.
func printVerdicts(w io.Writer, verdicts []placement.Verdict, here string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	head := "NODE\tFITS\tSCORE\tBECAUSE"
	fmt.Fprintln(tw, head)
	for _, v := range verdicts {
		node := v.Node
		if node == here {
			node += " (here)"
		}
		if len(v.Objections) > 0 {
			fmt.Fprintf(tw, "%s\tno\t-\t%s\n", node, strings.Join(v.Objections, ", "))
			continue
		}
		var because []string
		for _, s := range v.Scores {
			if s.Points != 0 {
				because = append(because, fmt.Sprintf("%s %d×%d", s.Name, s.Weight, s.Points))
			}
		}
		fmt.Fprintf(tw, "%s\tyes\t%d\t%s\n", node, v.Total, strings.Join(because, ", "))
	}
	return tw.Flush()
}

// placed lists what matters for where pods run, in portions.
func (c *conn) placed(ctx context.Context) (simulate.Objects, error) {
	return simulate.Gather(func(k *api.Kind) (all []api.Object, err error) {
		opts := client.ListOptions{Limit: 5000}
		for {
			l, err := c.api.List(ctx, k, opts)
			if err != nil {
				return nil, err
			}
			all = append(all, l.Items...)
			if opts.Continue = l.Continue; opts.Continue == "" {
				return all, nil
			}
		}
	})
}
