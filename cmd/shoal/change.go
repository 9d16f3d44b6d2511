package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

type deleteCmd struct {
	selection
	files
	AllObjects     bool   `name:"all" help:"Every object of the kind in the namespace."`
	GracePeriod    int64  `default:"-1" help:"Seconds a pod gets to end; -1 is the pod's own."`
	Force          bool   `help:"Do not wait for the pod's machine to confirm."`
	Now            bool   `help:"The same as --grace-period=1."`
	Cascade        string `enum:"background,foreground,orphan" default:"background" help:"What happens to what the object owns: background, foreground or orphan."`
	Wait           bool   `default:"true" negatable:"" help:"Wait until the objects are gone."`
	IgnoreNotFound bool   `help:"An object that is not there is no error."`
}

func (c deleteCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	doomed, err := c.find(ctx, g, conn, std)
	if err != nil {
		return err
	}
	var errs []error
	var gone []object
	for _, o := range doomed {
		uid, err := c.one(ctx, conn, o)
		switch {
		case apierrors.IsNotFound(err) && c.IgnoreNotFound:
		case err != nil:
			errs = append(errs, err)
		default:
			fmt.Fprintf(std.out, "%s %q deleted\n", strings.ToLower(o.kind.Kind), o.name)
			o.uid = uid // another one may have its name before its turn to be waited for comes
			gone = append(gone, o)
		}
	}
	if c.Wait {
		for _, o := range gone {
			errs = append(errs, conn.untilGone(ctx, std, o))
		}
	}
	return errors.Join(errs...)
}

// deletionPatience is how long a deletion may take before people are told what it waits for.
var deletionPatience = 3 * time.Second

// untilGone waits until an object is gone.
func (c *conn) untilGone(ctx context.Context, std streams, o object) error {
	done := make(chan error, 1)
	go func() { done <- c.until(ctx, o, time.Time{}, nil) }()
	select {
	case err := <-done:
		return err
	case <-time.After(deletionPatience):
	}
	var is metav1.PartialObjectMetadata
	if err := c.json(ctx, request{method: "GET", path: path(o.kind, o.namespace, o.name)}, &is); err == nil && len(is.Finalizers) > 0 && (o.uid == "" || o.uid == is.UID) {
		why := ""
		if slices.Contains(is.Finalizers, api.FinalizerClaim) {
			why = ", which means that a pod uses it"
		}
		fmt.Fprintf(std.err, "%s %q is still there: its finalizers are %s%s\n", strings.ToLower(o.kind.Kind), o.name, strings.Join(is.Finalizers, ", "), why)
	}
	return <-done
}

// find lists what is to be deleted.
func (c deleteCmd) find(ctx context.Context, g *Globals, conn *conn, std streams) ([]object, error) {
	var all []object
	if len(c.Filename) > 0 {
		ms, err := c.files.read(std.in)
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			if err := m.place(g, g.Namespace != "default"); err != nil {
				return nil, err
			}
			all = append(all, object{target: target{m.kind, m.object.GetName()}, namespace: m.object.GetNamespace()})
		}
		return all, nil
	}
	if !c.AllObjects && c.Selector == "" && c.FieldSelector == "" {
		targets, err := parseTargets(c.Args)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			if t.name == "" {
				return nil, usagef("which %s? Name them, or give -l SELECTOR or --all", t.kind.Resource)
			}
		}
	}
	return c.objects(ctx, g, conn, std)
}

// one deletes an object and returns which one it was.
func (c deleteCmd) one(ctx context.Context, conn *conn, o object) (types.UID, error) {
	policy := map[string]metav1.DeletionPropagation{
		"background": metav1.DeletePropagationBackground, "foreground": metav1.DeletePropagationForeground, "orphan": metav1.DeletePropagationOrphan,
	}[c.Cascade]
	opts := metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, PropagationPolicy: &policy}
	grace := c.GracePeriod
	if c.Now {
		grace = 1
	}
	if c.Force && grace < 0 {
		grace = 0
	}
	if grace == 0 && !c.Force {
		grace = 1
	}
	if grace >= 0 {
		opts.GracePeriodSeconds = &grace
	}
	body, err := json.Marshal(opts)
	if err != nil {
		return "", err
	}
	var out struct { // the object, or a Status that names it
		metav1.ObjectMeta `json:"metadata"`
		Details           metav1.StatusDetails `json:"details"`
	}
	err = conn.json(ctx, request{method: "DELETE", path: path(o.kind, o.namespace, o.name), ctype: "application/json", body: body}, &out)
	return cmp.Or(out.UID, out.Details.UID), err
}

type scaleCmd struct {
	Args     []string `arg:"" help:"rc NAME, deploy/NAME and the like."`
	Replicas int32    `required:"" help:"How many there should be."`
}

func (c scaleCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.Replicas < 0 {
		return usagef("--replicas must be 0 or more, not %d", c.Replicas)
	}
	targets, err := parseTargets(c.Args)
	if err != nil {
		return err
	}
	return each(ctx, g, targets, func(conn *conn, t target) error {
		body := fmt.Sprintf(`{"spec":{"replicas":%d}}`, c.Replicas)
		if err := conn.patch(ctx, path(t.kind, g.Namespace, t.name, "scale"), types.MergePatchType, body); err != nil {
			return err
		}
		fmt.Fprintln(std.out, shown(t.kind, t.name), "scaled")
		return nil
	})
}

type labelCmd struct {
	Args []string `arg:"" help:"KIND NAME (or KIND/NAME), then KEY=VALUE… to set and KEY-… to remove."`
}

func (c labelCmd) Run(ctx context.Context, g *Globals, std streams) error {
	split := len(c.Args)
	labels := map[string]any{}
	for i, a := range c.Args {
		key, value, set := strings.Cut(a, "=")
		switch {
		case set:
			labels[key] = value
		case strings.HasSuffix(a, "-") && i > 0:
			labels[strings.TrimSuffix(a, "-")] = nil
		default:
			continue
		}
		split = min(split, i)
	}
	if len(labels) == 0 {
		return usagef("no labels given: shoal label pod web-1 tier=front old-")
	}
	targets, err := parseTargets(c.Args[:split])
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	return each(ctx, g, targets, func(conn *conn, t target) error {
		if err := conn.patch(ctx, path(t.kind, g.Namespace, t.name), types.MergePatchType, string(body)); err != nil {
			return err
		}
		fmt.Fprintln(std.out, shown(t.kind, t.name), "labeled")
		return nil
	})
}

type patchCmd struct {
	Args        []string `arg:"" help:"KIND NAME or KIND/NAME."`
	Patch       string   `short:"p" required:"" help:"The patch, JSON or YAML."`
	Type        string   `enum:"strategic,merge,json" default:"strategic" help:"strategic, merge or json."`
	Subresource string   `help:"status or scale instead of the object."`
}

func (c patchCmd) Run(ctx context.Context, g *Globals, std streams) error {
	targets, err := parseTargets(c.Args)
	if err != nil {
		return err
	}
	body, err := yamlToJSON(c.Patch)
	if err != nil {
		return usagef("--patch: %v", err)
	}
	kind := map[string]types.PatchType{"strategic": types.StrategicMergePatchType, "merge": types.MergePatchType, "json": types.JSONPatchType}[c.Type]
	return each(ctx, g, targets, func(conn *conn, t target) error {
		at := path(t.kind, g.Namespace, t.name)
		if c.Subresource != "" {
			at += "/" + c.Subresource
		}
		if err := conn.patch(ctx, at, kind, body); err != nil {
			return err
		}
		fmt.Fprintln(std.out, shown(t.kind, t.name), "patched")
		return nil
	})
}

// each calls f for every named object.
func each(_ context.Context, g *Globals, targets []target, f func(*conn, target) error) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range targets {
		if t.name == "" {
			return usagef("which %s? Give its name", t.kind.Singular)
		}
		errs = append(errs, f(conn, t))
	}
	return errors.Join(errs...)
}

func (c *conn) patch(ctx context.Context, at string, kind types.PatchType, body string) error {
	var out json.RawMessage
	return c.json(ctx, request{
		method: "PATCH", path: at, ctype: string(kind), body: []byte(body), query: url.Values{"fieldManager": {"shoal"}},
	}, &out)
}
