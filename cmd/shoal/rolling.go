package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

type rollingUpdateCmd struct {
	Old       string        `arg:"" name:"old-rc" help:"The ReplicationController whose pods are to be replaced."`
	New       string        `arg:"" optional:"" name:"new-rc" help:"The one that takes over, and is made if need be; without it, the old one gets new pods."`
	Image     string        `help:"The new image."`
	Container string        `help:"The container that gets the image; needed when there are several."`
	Surge     int           `default:"1" help:"How many pods more than wanted there may be."`
	Pause     bool          `xor:"what" help:"Let it rest."`
	Resume    bool          `xor:"what" help:"Go on after --pause."`
	Rollback  bool          `xor:"what" help:"Go back to the template, or to the ReplicationController, of before."`
	Wait      bool          `default:"true" negatable:"" help:"Follow it until it is done. It goes on without."`
	Timeout   time.Duration `help:"How long to follow it; without it, as long as it takes."`
}

// Run says what the Master is to do, in one write, and follows it. The Master goes on whatever becomes of this process.
func (c rollingUpdateCmd) Run(ctx context.Context, g *Globals, std streams) error {
	change := c.Pause || c.Resume || c.Rollback
	switch {
	case change && c.Image != "":
		return usagef("--image begins a rolling update, --pause, --resume and --rollback are about one that has begun: give one of them")
	case !change && c.Image == "" && c.New == "":
		return usagef("to what? shoal rolling-update %s --image IMAGE, or shoal rolling-update %s NEW-RC", c.Old, c.Old)
	case c.Surge < 1:
		return usagef("--surge must be at least 1, not %d: a new pod comes before an old one goes", c.Surge)
	case c.New == c.Old:
		return usagef("the new ReplicationController is called like the old one: leave the second name out")
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	r := rollingUpdate{rollingUpdateCmd: c, api: conn.api, namespace: g.Namespace, std: std}
	name := c.Old
	switch {
	case change:
		name, err = r.change(ctx)
	case c.New != "":
		name = c.New
		err = r.takeOver(ctx)
	default:
		err = r.renew(ctx)
	}
	if err != nil || !c.Wait || c.Pause {
		return err
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within %v; the Master goes on", c.Timeout))
		defer cancel()
	}
	return r.follow(ctx, name)
}

// rollingUpdate is one use of the command.
type rollingUpdate struct {
	rollingUpdateCmd
	api       client.Interface
	namespace string
	std       streams
}

func (r *rollingUpdate) get(ctx context.Context, name string) (*corev1.ReplicationController, error) {
	o, err := r.api.Get(ctx, api.ReplicationControllers, client.Key{Namespace: r.namespace, Name: name}, client.GetOptions{})
	if err != nil {
		return nil, err
	}
	return o.DeepCopyObject().(*corev1.ReplicationController), nil
}

// modify changes a ReplicationController, again if somebody else did at the same time.
func (r *rollingUpdate) modify(ctx context.Context, name string, change func(*corev1.ReplicationController) error) error {
	for {
		rc, err := r.get(ctx, name)
		if err != nil {
			return err
		}
		if err := change(rc); err != nil {
			return err
		}
		if _, err = r.api.Update(ctx, api.ReplicationControllers, rc, client.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// setImage puts the new image into a template.
func (r *rollingUpdate) setImage(t *corev1.PodTemplateSpec) error {
	var names []string
	for i := range t.Spec.Containers {
		ct := &t.Spec.Containers[i]
		names = append(names, ct.Name)
		if ct.Name == r.Container || r.Container == "" && len(t.Spec.Containers) == 1 {
			ct.Image = r.Image
			return nil
		}
	}
	if r.Container == "" {
		return usagef("its pods have several containers: say with --container which of %v gets the image", names)
	}
	return usagef("--container %s: its pods have only %v", r.Container, names)
}

func note(rc *corev1.ReplicationController, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	metav1.SetMetaDataAnnotation(&rc.ObjectMeta, key, string(text))
	return nil
}

// renew gives a ReplicationController another template.
func (r *rollingUpdate) renew(ctx context.Context) error {
	err := r.modify(ctx, r.Old, func(rc *corev1.ReplicationController) error {
		before := rc.Spec.Template.DeepCopy()
		if err := r.setImage(rc.Spec.Template); err != nil {
			return err
		}
		// Generations only grow, so no two versions are marked alike.
		metav1.SetMetaDataAnnotation(&rc.Spec.Template.ObjectMeta, api.VersionAnnotation, strconv.FormatInt(rc.Generation+1, 10))
		return errors.Join(note(rc, api.PreviousTemplateAnnotation, before), note(rc, api.RollingUpdateAnnotation, api.RollingUpdate{Surge: r.Surge}))
	})
	if err == nil {
		fmt.Fprintf(r.std.out, "%s gets pods with %s\n", shown(api.ReplicationControllers, r.Old), r.Image)
	}
	return err
}

// takeOver has another ReplicationController take the pods' place, which is made after the old one if it is not there.
func (r *rollingUpdate) takeOver(ctx context.Context) error {
	from, err := r.get(ctx, r.Old)
	if err != nil {
		return err
	}
	u := api.RollingUpdate{Surge: r.Surge, From: r.Old, Replicas: orOne(from.Spec.Replicas)}
	_, err = r.get(ctx, r.New)
	switch {
	case apierrors.IsNotFound(err) && r.Image == "":
		return fmt.Errorf("%w: create it with spec.replicas: 0, or give --image to have it made like %s", err, r.Old)
	case apierrors.IsNotFound(err):
		rc := r.like(from)
		if err := errors.Join(r.setImage(rc.Spec.Template), note(rc, api.RollingUpdateAnnotation, u)); err != nil {
			return err
		}
		_, err = r.api.Create(ctx, api.ReplicationControllers, rc, client.CreateOptions{})
	case err == nil && r.Image != "":
		return usagef("%s is there already: leave --image out to have it take over, or give the name of one that is not", shown(api.ReplicationControllers, r.New))
	case err == nil:
		err = r.modify(ctx, r.New, func(rc *corev1.ReplicationController) error { return note(rc, api.RollingUpdateAnnotation, u) })
	}
	if err == nil {
		fmt.Fprintf(r.std.out, "%s takes over from %s\n", shown(api.ReplicationControllers, r.New), shown(api.ReplicationControllers, r.Old))
	}
	return err
}

// like makes a ReplicationController after another one, with pods that only the new one selects.
func (r *rollingUpdate) like(from *corev1.ReplicationController) *corev1.ReplicationController {
	const label = "rolling-update"
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: from.Namespace, Name: r.New, Labels: maps.Clone(from.Labels)}, Spec: *from.Spec.DeepCopy(),
	}
	rc.Spec.Replicas = new(int32)
	rc.Spec.Selector[label], rc.Spec.Template.Labels[label] = r.New, r.New
	return rc
}

// change pauses, resumes or turns back a rolling update, and returns the name of what is to be followed.
func (r *rollingUpdate) change(ctx context.Context) (string, error) {
	name := r.Old
	if r.New != "" {
		name = r.New
	}
	rc, err := r.get(ctx, name)
	if err != nil {
		return "", err
	}
	u, err := api.RollingUpdateOf(rc)
	if err != nil {
		return "", err
	}
	it := shown(api.ReplicationControllers, name)
	switch {
	case u == nil:
		return "", fmt.Errorf("%s was never rolled: shoal rolling-update %s --image IMAGE begins that", it, name)
	case r.Rollback && u.From != "":
		return r.giveBack(ctx, name, u)
	case r.Rollback:
		return name, r.turnBack(ctx, name)
	case u.Paused == r.Pause:
		return "", fmt.Errorf("%s is %s already", it, map[bool]string{true: "paused", false: "going on"}[u.Paused])
	}
	u.Paused = r.Pause
	err = r.modify(ctx, name, func(rc *corev1.ReplicationController) error { return note(rc, api.RollingUpdateAnnotation, u) })
	if err == nil {
		fmt.Fprintln(r.std.out, it, map[bool]string{true: "is paused", false: "goes on"}[u.Paused])
	}
	return name, err
}

// turnBack gives it the template of before, and that the present one's place.
func (r *rollingUpdate) turnBack(ctx context.Context, name string) error {
	it := shown(api.ReplicationControllers, name)
	err := r.modify(ctx, name, func(rc *corev1.ReplicationController) error {
		text, ok := rc.Annotations[api.PreviousTemplateAnnotation]
		if !ok {
			return fmt.Errorf("%s has no template of before", it)
		}
		var before corev1.PodTemplateSpec
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			return fmt.Errorf("annotation %s: %w", api.PreviousTemplateAnnotation, err)
		}
		err := errors.Join(note(rc, api.PreviousTemplateAnnotation, rc.Spec.Template), note(rc, api.RollingUpdateAnnotation, api.RollingUpdate{Surge: r.Surge}))
		rc.Spec.Template = &before
		return err
	})
	if err == nil {
		fmt.Fprintf(r.std.out, "%s goes back to the template of before\n", it)
	}
	return err
}

// giveBack has the old one take over from the new one. First the new one stops, so that there are never two at it.
func (r *rollingUpdate) giveBack(ctx context.Context, name string, u *api.RollingUpdate) (string, error) {
	if _, err := r.get(ctx, u.From); apierrors.IsNotFound(err) {
		return "", fmt.Errorf("%s has taken over, and %s is gone: create that anew to go back", shown(api.ReplicationControllers, name), u.From)
	}
	err := r.modify(ctx, name, func(rc *corev1.ReplicationController) error {
		delete(rc.Annotations, api.RollingUpdateAnnotation)
		return nil
	})
	if err == nil {
		err = r.modify(ctx, u.From, func(rc *corev1.ReplicationController) error {
			return note(rc, api.RollingUpdateAnnotation, api.RollingUpdate{Surge: r.Surge, From: name, Replicas: u.Replicas})
		})
	}
	if err == nil {
		fmt.Fprintf(r.std.out, "%s takes over again from %s\n", shown(api.ReplicationControllers, u.From), shown(api.ReplicationControllers, name))
	}
	return u.From, err
}

// follow prints how far it is whenever that changes, until it is done.
func (r *rollingUpdate) follow(ctx context.Context, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	pods := client.NewCache[*corev1.Pod](client.CacheConfig{Client: r.api, Kind: api.Pods, ListOptions: client.ListOptions{Namespace: r.namespace}})
	rcs := client.NewCache[*corev1.ReplicationController](client.CacheConfig{Client: r.api, Kind: api.ReplicationControllers, ListOptions: client.ListOptions{Namespace: r.namespace}})
	pods.OnChange(func(_, _ *corev1.Pod) { poke() })
	rcs.OnChange(func(_, _ *corev1.ReplicationController) { poke() })
	for _, run := range []func(context.Context) error{pods.Run, rcs.Run} {
		go func() { cancel(run(ctx)) }()
	}
	if err := client.WaitSynced(ctx, pods, rcs); err != nil {
		return err
	}
	said := ""
	for {
		rc, ok := rcs.Get(client.Key{Namespace: r.namespace, Name: name})
		if !ok {
			return fmt.Errorf("%s has been deleted", shown(api.ReplicationControllers, name))
		}
		_, fromThere := rcs.Get(client.Key{Namespace: r.namespace, Name: fromOf(rc)})
		text, done := rollingProgress(rc, fromThere, pods.List(r.namespace, nil))
		if text != said {
			fmt.Fprintf(r.std.out, "%s: %s\n", shown(api.ReplicationControllers, name), text)
			said = text
		}
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func fromOf(rc *corev1.ReplicationController) string {
	if u, err := api.RollingUpdateOf(rc); err == nil && u != nil {
		return u.From
	}
	return ""
}

// rollingProgress says how far a rolling update is.
func rollingProgress(rc *corev1.ReplicationController, fromThere bool, pods []*corev1.Pod) (text string, done bool) {
	u, err := api.RollingUpdateOf(rc)
	if err != nil || u == nil {
		return "it is no longer rolled", true
	}
	want := int(orOne(rc.Spec.Replicas))
	if u.From != "" {
		want = int(u.Replicas)
	}
	fresh, ready, old, trouble := 0, 0, 0, ""
	for _, p := range pods {
		ref := metav1.GetControllerOf(p)
		switch {
		case ref == nil || ref.Kind != api.ReplicationControllers.Kind || !api.IsPodActive(p):
		case ref.Name == u.From, ref.UID == rc.UID && api.VersionOf(p.Annotations) != api.VersionOf(rc.Spec.Template.Annotations):
			old++
		case ref.UID == rc.UID:
			fresh++
			if api.IsPodReady(p) {
				ready++
			} else if t := troubleOf(p); trouble == "" && t != "" {
				trouble = "; " + p.Name + ": " + t
			}
		}
	}
	if fresh == want && ready == want && old == 0 && !fromThere {
		return fmt.Sprintf("done, all %d pods are new", want), true
	}
	text = fmt.Sprintf("%d of %d pods are new, %d of them ready, %d old ones are there", fresh, want, ready, old)
	if u.Paused {
		text += "; it is paused"
	}
	return text + trouble, false
}

// troubleOf is what keeps a pod from being ready, if that will not pass by itself.
func troubleOf(p *corev1.Pod) string {
	if c := api.PodCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return c.Message
	}
	for _, s := range p.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return w.Reason
		}
	}
	return ""
}
