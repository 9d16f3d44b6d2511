package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/api/custom"
	"shoal/internal/client"
)

// definitions accepts the names of CustomResourceDefinitions, which has their objects served, and deletes those objects before a
// definition goes. One worker: who asks for a name first gets it.
type definitions struct {
	Config
	queue client.Queue
}

func newDefinitions(c Config) loop {
	d := &definitions{Config: c, queue: client.NewQueue()}
	c.Caches.Definitions.OnChange(func(old, now *apiextensionsv1.CustomResourceDefinition) {
		changed := cmp.Or(now, old)
		// Names that one lets go, another of its group may wait for.
		for _, other := range c.Caches.Definitions.List("", nil) {
			if other.Spec.Group == changed.Spec.Group {
				d.queue.Add(client.KeyOf(other))
			}
		}
	})
	c.Caches.Objects.OnChange(func(k *api.Kind, _, o api.Object) {
		if o == nil { // maybe the last that a definition waits for
			if def, ok := c.Caches.Definitions.Get(client.Key{Name: k.GVR().GroupResource().String()}); ok && def.DeletionTimestamp != nil {
				d.queue.Add(client.KeyOf(def))
			}
		}
	})
	return newLoop("definitions", d.queue, 1, d.reconcile)
}

func (d *definitions) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	def, ok := d.Caches.Definitions.Get(key)
	switch {
	case !ok:
		return 0, nil
	case def.DeletionTimestamp != nil:
		return 0, d.finish(ctx, def)
	}
	status := d.judge(def)
	return 0, d.writeStatus(ctx, def, status)
}

func (d *definitions) writeStatus(ctx context.Context, def *apiextensionsv1.CustomResourceDefinition, status apiextensionsv1.CustomResourceDefinitionStatus) error {
	if equality.Semantic.DeepEqual(status, def.Status) {
		return nil
	}
	updated := def.DeepCopy()
	updated.Status = status
	out, err := d.Client.Update(ctx, api.CustomResourceDefinitions, updated, client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	var w written
	if err := noteWrite(out, err, &w, "write the status of "+def.Name); err != nil {
		return err
	}
	return w.shown(ctx, d.Caches.Definitions)
}

// judge returns the status that def should have: its names as far as nobody else of its group has them.
func (d *definitions) judge(def *apiextensionsv1.CustomResourceDefinition) apiextensionsv1.CustomResourceDefinitionStatus {
	status := *def.Status.DeepCopy()
	resources, kinds := d.taken(def)
	want, have := &def.Spec.Names, &status.AcceptedNames
	accepted := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}
	take := func(to *string, name, reason string, taken map[string]bool) {
		if taken[name] {
			accepted.Status, accepted.Reason, accepted.Message = apiextensionsv1.ConditionFalse, reason, strconv.Quote(name)+" is already in use"
			return
		}
		*to = name
	}
	take(&have.Plural, want.Plural, "PluralConflict", resources)
	take(&have.Singular, want.Singular, "SingularConflict", resources)
	short := slices.DeleteFunc(slices.Clone(want.ShortNames), func(s string) bool { return resources[s] })
	if len(short) < len(want.ShortNames) {
		accepted.Status, accepted.Reason, accepted.Message = apiextensionsv1.ConditionFalse, "ShortNamesConflict", "a short name is already in use"
	} else {
		have.ShortNames = short
	}
	take(&have.Kind, want.Kind, "KindConflict", kinds)
	take(&have.ListKind, want.ListKind, "ListKindConflict", kinds)
	have.Categories = want.Categories
	d.setCondition(&status, accepted)
	if api.CRDEstablished(def) {
		return status // for good: there may be objects
	}
	established := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Established, Status: accepted.Status, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
	}
	if accepted.Status != apiextensionsv1.ConditionTrue {
		established.Reason, established.Message = "NotAccepted", "not all names are accepted"
	}
	d.setCondition(&status, established)
	return status
}

// taken returns the names of resources and kinds that others of def's group have.
func (d *definitions) taken(def *apiextensionsv1.CustomResourceDefinition) (resources, kinds map[string]bool) {
	resources, kinds = map[string]bool{}, map[string]bool{}
	note := func(plural, singular string, short []string, kind, listKind string) {
		for _, name := range append([]string{plural, singular}, short...) {
			resources[name] = true
		}
		kinds[kind], kinds[listKind] = true, true
	}
	for _, k := range api.Kinds() {
		if k.Group == def.Spec.Group {
			note(k.Resource, k.Singular, k.ShortNames, k.Kind, k.Kind+"List")
		}
	}
	for _, other := range d.Caches.Definitions.List("", nil) {
		if n := &other.Status.AcceptedNames; other.Spec.Group == def.Spec.Group && other.UID != def.UID {
			note(n.Plural, n.Singular, n.ShortNames, n.Kind, n.ListKind)
		}
	}
	delete(resources, "")
	return resources, kinds
}

// setCondition sets a condition, keeping the time of its last change when it does not change.
func (d *definitions) setCondition(status *apiextensionsv1.CustomResourceDefinitionStatus, c apiextensionsv1.CustomResourceDefinitionCondition) {
	c.LastTransitionTime = metav1.NewTime(d.Now()).Rfc3339Copy()
	for i := range status.Conditions {
		had := &status.Conditions[i]
		if had.Type != c.Type {
			continue
		}
		if had.Status == c.Status {
			c.LastTransitionTime = had.LastTransitionTime
		}
		*had = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

// finish deletes the objects of a deleted definition and then lets it go. New ones are refused from the moment of its deletion on.
func (d *definitions) finish(ctx context.Context, def *apiextensionsv1.CustomResourceDefinition) error {
	if !slices.Contains(def.Finalizers, api.CustomResourceDefinitions.DeletionFinalizer) {
		return nil
	}
	status := *def.Status.DeepCopy()
	d.setCondition(&status, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue,
		Reason: "InstanceDeletionInProgress", Message: "CustomResource deletion is in progress",
	})
	if err := d.writeStatus(ctx, def, status); err != nil {
		return err
	}
	if api.CRDEstablished(def) {
		kinds, err := custom.Kinds(def)
		if err != nil {
			return fmt.Errorf("delete objects of %s: %w", def.Name, err)
		}
		left, err := empty(ctx, d.Client, kinds[0], "")
		if err != nil {
			return fmt.Errorf("delete objects of %s: %w", def.Name, err)
		}
		if len(left) > 0 {
			return nil // their going brings us back
		}
	}
	latest, ok := d.Caches.Definitions.Get(client.KeyOf(def))
	if !ok || latest.UID != def.UID {
		return nil
	}
	updated := latest.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool { return f == api.CustomResourceDefinitions.DeletionFinalizer })
	_, err := d.Client.Update(ctx, api.CustomResourceDefinitions, updated, client.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("end the deletion of %s: %w", def.Name, err)
	}
	return nil
}

// customKinds returns one row of every kind that is defined and served.
func customKinds(c *Caches) ([]*api.Kind, error) {
	var out []*api.Kind
	for _, def := range c.Definitions.List("", nil) {
		if !api.CRDEstablished(def) {
			continue
		}
		kinds, err := custom.Kinds(def)
		if err != nil {
			return nil, err
		}
		if len(kinds) > 0 {
			out = append(out, kinds[0])
		}
	}
	return out, nil
}
