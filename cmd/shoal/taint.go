package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

type taintCmd struct {
	Args      []string `arg:"" help:"Machines' names, then KEY=VALUE:EFFECT… to set and KEY- or KEY:EFFECT-… to remove. Effects: NoSchedule, PreferNoSchedule, NoExecute."`
	Overwrite bool     `help:"Also change the value of a taint that is there."`
}

const taintExample = "shoal taint three disk=broken:NoSchedule, or shoal taint three disk- to take it back"

// taintChange is one taint to set, or to remove; without an effect, all of its key.
type taintChange struct {
	corev1.Taint
	remove bool
}

func (c taintCmd) Run(ctx context.Context, g *Globals, std streams) error {
	var nodes []string
	var changes []taintChange
	for _, a := range c.Args {
		is := strings.ContainsAny(a, "=:") || strings.HasSuffix(a, "-")
		switch {
		case is:
			change, err := parseTaint(a)
			if err != nil {
				return err
			}
			changes = append(changes, change)
		case len(changes) > 0:
			return usagef("%s comes after the taints: the machines' names come first: %s", a, taintExample)
		default:
			nodes = append(nodes, strings.TrimPrefix(strings.TrimPrefix(a, "nodes/"), "node/"))
		}
	}
	if nodes = slices.DeleteFunc(nodes, func(n string) bool { return n == "node" || n == "nodes" || n == "no" }); len(nodes) == 0 || len(changes) == 0 {
		return usagef("give machines and taints: %s", taintExample)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var errs []error
	for _, node := range nodes {
		errs = append(errs, conn.taint(ctx, std, node, changes, c.Overwrite))
	}
	return errors.Join(errs...)
}

func parseTaint(s string) (t taintChange, err error) {
	rest, remove := strings.CutSuffix(s, "-")
	t.remove = remove
	rest, effect, hasEffect := strings.Cut(rest, ":")
	t.Key, t.Value, _ = strings.Cut(rest, "=")
	t.Effect = corev1.TaintEffect(effect)
	known := slices.Contains([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}, t.Effect)
	switch {
	case t.Key == "":
		return t, usagef("taint %q has no key: %s", s, taintExample)
	case !hasEffect && !remove:
		return t, usagef("taint %q has no effect: append :NoSchedule, :PreferNoSchedule or :NoExecute", s)
	case hasEffect && !known:
		return t, usagef("taint %q: effect %q is none of NoSchedule, PreferNoSchedule, NoExecute", s, effect)
	}
	return t, nil
}

// taint changes a machine's taints, all or none, on top of what others changed meanwhile.
func (c *conn) taint(ctx context.Context, std streams, node string, changes []taintChange, overwrite bool) error {
	at := path(api.Nodes, "", node)
	for {
		var n corev1.Node
		if err := c.json(ctx, request{method: "GET", path: at}, &n); err != nil {
			return err
		}
		taints, err := retaint(n.Spec.Taints, changes, overwrite)
		if err != nil {
			return fmt.Errorf("%s: %w", shown(api.Nodes, node), err)
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion}, "spec": map[string]any{"taints": taints}})
		if err != nil {
			return err
		}
		err = c.patch(ctx, at, types.MergePatchType, string(body))
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue // somebody wrote in between: what they wrote stays
		}
		if err == nil {
			fmt.Fprintln(std.out, shown(api.Nodes, node), "tainted")
		}
		return err
	}
}

// retaint returns taints with the changes, or why that cannot be.
func retaint(taints []corev1.Taint, changes []taintChange, overwrite bool) ([]corev1.Taint, error) {
	for _, c := range changes {
		same := func(t corev1.Taint) bool { return t.Key == c.Key && (c.Effect == "" || t.Effect == c.Effect) }
		i := slices.IndexFunc(taints, same)
		switch {
		case c.remove && i < 0:
			return nil, fmt.Errorf("taint %q is not there", strings.TrimSuffix(c.Key+":"+string(c.Effect), ":"))
		case c.remove:
			taints = slices.DeleteFunc(slices.Clone(taints), same)
		case i < 0:
			taints = append(slices.Clip(taints), c.Taint)
		case taints[i].Value == c.Value:
		case !overwrite:
			return nil, fmt.Errorf("taint %s:%s is there already, with value %q: give --overwrite to change it", c.Key, c.Effect, taints[i].Value)
		default:
			taints = slices.Clone(taints)
			taints[i].Value = c.Value
		}
	}
	return taints, nil
}
