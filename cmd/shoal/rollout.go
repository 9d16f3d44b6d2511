package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// rolloutCmd is about the versions of the template of a Deployment, a DaemonSet or a StatefulSet.
type rolloutCmd struct {
	Status  rolloutStatusCmd  `cmd:"" help:"Follow a rollout until it is done."`
	History rolloutHistoryCmd `cmd:"" help:"List the revisions that are kept."`
	Undo    rolloutUndoCmd    `cmd:"" help:"Go back to an earlier revision."`
	Restart rolloutRestartCmd `cmd:"" help:"Replace all pods, as a rollout of the same version."`
	Pause   rolloutPauseCmd   `cmd:"" help:"Let changes of a Deployment's template rest until resume."`
	Resume  rolloutResumeCmd  `cmd:"" help:"Roll out what changed during a pause."`
}

// rolled names the objects that a verb is about.
type rolled struct {
	Args []string `arg:"" help:"deployment NAME, ds/NAME, sts/NAME and the like."`
}

// Annotations that kubectl knows, too.
const (
	revisionAnnotation    = "deployment.kubernetes.io/revision"
	changeCauseAnnotation = "kubernetes.io/change-cause"
	restartedAnnotation   = "kubectl.kubernetes.io/restartedAt"
)

// rollable is an object whose template has versions, with the fields that the three kinds share.
type rollable struct {
	kind              *api.Kind
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Paused   bool                   `json:"paused"`
		Selector *metav1.LabelSelector  `json:"selector"`
		Template corev1.PodTemplateSpec `json:"template"`
	} `json:"spec"`
}

func (r *rollable) path() string  { return path(r.kind, r.Namespace, r.Name) }
func (r *rollable) shown() string { return shown(r.kind, r.Name) }

// each calls f for every object that is named.
func (c rolled) each(ctx context.Context, g *Globals, f func(conn *conn, r *rollable) error, kinds ...*api.Kind) error {
	targets, err := parseTargets(c.Args)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if !slices.Contains(kinds, t.kind) {
			what := "rollouts"
			if len(kinds) == 1 {
				what = "rollouts that can rest"
			}
			return usagef("%s have no %s: name a %s", t.kind.Resource, what, kinds[0].Singular)
		}
	}
	return each(ctx, g, targets, func(conn *conn, t target) error {
		r := rollable{kind: t.kind}
		if err := conn.json(ctx, request{method: "GET", path: path(t.kind, g.Namespace, t.name)}, &r); err != nil {
			return err
		}
		return f(conn, &r)
	})
}

// all three kinds.
func rollables() []*api.Kind { return []*api.Kind{api.Deployments, api.DaemonSets, api.StatefulSets} }

type rolloutStatusCmd struct {
	rolled
	Watch   bool          `default:"true" negatable:"" help:"Wait until it is done; else say how far it is."`
	Timeout time.Duration `help:"How long to wait; without it, as long as it takes."`
}

func (c rolloutStatusCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return c.each(ctx, g, func(conn *conn, r *rollable) error {
		said := ""
		var failed error
		met := func(event string, o map[string]any) bool {
			if event == deleted {
				return false
			}
			var text string
			var done bool
			if text, done, failed = rolloutProgress(r.kind, o); failed != nil {
				return true
			}
			if text != said {
				fmt.Fprintf(std.out, "%s: %s\n", r.shown(), text)
				said = text
			}
			return done || !c.Watch
		}
		var deadline time.Time
		if c.Timeout > 0 {
			deadline = time.Now().Add(c.Timeout)
		}
		err := conn.until(ctx, object{target: target{r.kind, r.Name}, namespace: r.Namespace}, deadline, met)
		if failed != nil {
			return fmt.Errorf("%s: %w", r.shown(), failed)
		}
		return err
	}, rollables()...)
}

// revision is a version of a template that is kept.
type revision struct {
	Number   int64                  `json:"revision"`
	Name     string                 `json:"name"` // of the object that keeps it
	Cause    string                 `json:"changeCause,omitempty"`
	Template corev1.PodTemplateSpec `json:"template"`
}

// revisions are those of an object, the newest last.
func revisions(ctx context.Context, conn *conn, r *rollable) (all []revision, err error) {
	selector, err := metav1.LabelSelectorAsSelector(r.Spec.Selector)
	if err != nil {
		return nil, err
	}
	list := func(k *api.Kind, into any) error {
		return conn.json(ctx, request{method: "GET", path: path(k, r.Namespace, ""), query: url.Values{"labelSelector": {selector.String()}}}, into)
	}
	if r.kind == api.Deployments {
		var l appsv1.ReplicaSetList
		if err := list(api.ReplicaSets, &l); err != nil {
			return nil, err
		}
		for _, rs := range l.Items {
			if metav1.IsControlledBy(&rs, r) {
				n, _ := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
				delete(rs.Spec.Template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
				all = append(all, revision{n, rs.Name, rs.Annotations[changeCauseAnnotation], rs.Spec.Template})
			}
		}
	} else {
		var l appsv1.ControllerRevisionList
		if err := list(api.ControllerRevisions, &l); err != nil {
			return nil, err
		}
		for _, kept := range l.Items {
			if !metav1.IsControlledBy(&kept, r) {
				continue
			}
			var data rollable
			if err := json.Unmarshal(kept.Data.Raw, &data); err != nil {
				return nil, fmt.Errorf("revision %s: %w", kept.Name, err)
			}
			all = append(all, revision{kept.Revision, kept.Name, kept.Annotations[changeCauseAnnotation], data.Spec.Template})
		}
	}
	slices.SortFunc(all, func(a, b revision) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

type rolloutHistoryCmd struct {
	rolled
	Revision int64  `help:"Only this one."`
	Output   string `short:"o" enum:"table,json" default:"table" help:"table or json, which has the templates."`
}

func (c rolloutHistoryCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return c.each(ctx, g, func(conn *conn, r *rollable) error {
		all, err := revisions(ctx, conn, r)
		if err != nil {
			return err
		}
		if c.Revision != 0 {
			one, err := find(r, all, c.Revision)
			if err != nil {
				return err
			}
			all = []revision{*one}
		}
		if c.Output == "json" {
			return json.NewEncoder(std.out).Encode(all)
		}
		return tellRevisions(std.out, all)
	}, rollables()...)
}

func tellRevisions(out io.Writer, all []revision) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "REVISION\tKEPT BY\tIMAGES\tCHANGE-CAUSE")
	for _, r := range all {
		var images string
		for i, c := range r.Template.Spec.Containers {
			if i > 0 {
				images += ","
			}
			images += c.Image
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", r.Number, r.Name, images, cmp.Or(r.Cause, "<none>"))
	}
	return w.Flush()
}

// find returns a revision; 0 is the one before the newest.
func find(r *rollable, all []revision, number int64) (*revision, error) {
	if number == 0 {
		if len(all) < 2 {
			return nil, fmt.Errorf("%s has no earlier revision", r.shown())
		}
		return &all[len(all)-2], nil
	}
	for i := range all {
		if all[i].Number == number {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%s has no revision %d: shoal rollout history %s %s lists them", r.shown(), number, r.kind.Singular, r.Name)
}

type rolloutUndoCmd struct {
	rolled
	ToRevision int64 `help:"The revision to go back to; 0 is the one before the present."`
}

func (c rolloutUndoCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.ToRevision < 0 {
		return usagef("--to-revision must be 0 or more, not %d", c.ToRevision)
	}
	return c.each(ctx, g, func(conn *conn, r *rollable) error {
		if r.Spec.Paused {
			return errPaused(r)
		}
		all, err := revisions(ctx, conn, r)
		if err != nil {
			return err
		}
		back, err := find(r, all, c.ToRevision)
		if err != nil {
			return err
		}
		if equality.Semantic.DeepEqual(back.Template, r.Spec.Template) {
			fmt.Fprintf(std.out, "%s is at revision %d already\n", r.shown(), back.Number)
			return nil
		}
		// Whoever changed the template meanwhile should not lose that unawares.
		body, err := json.Marshal([]map[string]any{
			{"op": "test", "path": "/metadata/resourceVersion", "value": r.ResourceVersion},
			{"op": "replace", "path": "/spec/template", "value": back.Template},
		})
		if err != nil {
			return err
		}
		if err := conn.patch(ctx, r.path(), types.JSONPatchType, string(body)); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s goes back to revision %d\n", r.shown(), back.Number)
		return nil
	}, rollables()...)
}

func errPaused(r *rollable) error {
	return fmt.Errorf("%s is paused: shoal rollout resume deployment %s first", r.shown(), r.Name)
}

type rolloutRestartCmd struct{ rolled }

func (c rolloutRestartCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return c.each(ctx, g, func(conn *conn, r *rollable) error {
		if r.Spec.Paused {
			return errPaused(r)
		}
		body := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, restartedAnnotation, time.Now().Format(time.RFC3339Nano))
		if err := conn.patch(ctx, r.path(), types.MergePatchType, body); err != nil {
			return err
		}
		fmt.Fprintln(std.out, r.shown(), "restarted")
		return nil
	}, rollables()...)
}

type rolloutPauseCmd struct{ rolled }

func (c rolloutPauseCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return c.pause(ctx, g, std, true)
}

type rolloutResumeCmd struct{ rolled }

func (c rolloutResumeCmd) Run(ctx context.Context, g *Globals, std streams) error {
	return c.pause(ctx, g, std, false)
}

func (c rolled) pause(ctx context.Context, g *Globals, std streams, is bool) error {
	already, done := " is not paused", "resumed"
	if is {
		already, done = " is paused already", "paused"
	}
	return c.each(ctx, g, func(conn *conn, r *rollable) error {
		if r.Spec.Paused == is {
			return errors.New(r.shown() + already)
		}
		if err := conn.patch(ctx, r.path(), types.MergePatchType, fmt.Sprintf(`{"spec":{"paused":%t}}`, is)); err != nil {
			return err
		}
		fmt.Fprintln(std.out, r.shown(), done)
		return nil
	}, api.Deployments)
}
