package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"shoal/internal/api"
	"shoal/internal/client"
)

// versioned is an object that keeps the versions of its template as ControllerRevisions.
type versioned struct {
	api.Object
	kind       *api.Kind
	template   *corev1.PodTemplateSpec
	selector   labels.Selector
	collisions *int32
}

// history is what a versioned object has had, the oldest first, and the present one, which is the last.
type history struct {
	all     []*appsv1.ControllerRevision
	current *appsv1.ControllerRevision
}

// hash is what the pods of the present version are labelled with.
func (h history) hash() string { return h.current.Labels[appsv1.ControllerRevisionHashLabelKey] }

// errCollision means that the name of a new revision is another's. The owner counts it, so that the next name is different.
var errCollision = errors.New("another revision has this name")

// revise finds the revision of the present template, makes it if there is none, and moves it to the end when people went back to it.
func revise(ctx context.Context, c Config, o versioned) (history, error) {
	mine, changed, err := claim(ctx, c, o.kind, o, api.ControllerRevisions, c.Caches.Revisions, func(r *appsv1.ControllerRevision) (matches, adoptable bool) {
		return o.selector.Matches(labelsOf(r)), r.DeletionTimestamp == nil
	})
	if err != nil {
		return history{}, err
	}
	if changed {
		mine = c.Caches.Revisions.ByIndex(byController, string(o.GetUID()))
	}
	slices.SortFunc(mine, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	data, err := templatePatch(o.template)
	if err != nil {
		return history{}, err
	}
	next := int64(1)
	if n := len(mine); n > 0 {
		next = mine[n-1].Revision + 1
	}
	for i := len(mine) - 1; i >= 0; i-- {
		r := mine[i]
		if !sameData(r.Data.Raw, data) {
			continue
		}
		if i < len(mine)-1 {
			if r, err = renumber(ctx, c, r, next); err != nil {
				return history{}, err
			}
			mine = append(slices.Delete(slices.Clone(mine), i, i+1), r)
		}
		return history{mine, r}, nil
	}
	r, err := newRevision(ctx, c, o, data, next)
	if err != nil {
		return history{}, err
	}
	return history{append(mine, r), r}, nil
}

// templatePatch is a template as kubectl applies it to go back: a strategic merge patch that replaces it.
func templatePatch(t *corev1.PodTemplateSpec) ([]byte, error) {
	var fields map[string]any
	text, err := json.Marshal(t)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

func sameData(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && equality.Semantic.DeepEqual(x, y)
}

func renumber(ctx context.Context, c Config, r *appsv1.ControllerRevision, n int64) (*appsv1.ControllerRevision, error) {
	r = r.DeepCopy()
	r.Revision = n
	out, err := c.Client.Update(ctx, api.ControllerRevisions, r, client.UpdateOptions{})
	return shownRevision(ctx, c, out, err)
}

func newRevision(ctx context.Context, c Config, o versioned, data []byte, n int64) (*appsv1.ControllerRevision, error) {
	h := fnv.New32a()
	_, _ = h.Write(data)
	if o.collisions != nil {
		_, _ = fmt.Fprint(h, *o.collisions)
	}
	hash := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
	l := maps.Clone(o.template.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[appsv1.ControllerRevisionHashLabelKey] = hash
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: o.GetName() + "-" + hash, Namespace: o.GetNamespace(), Labels: l, Annotations: maps.Clone(o.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{controllerRef(o, o.kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: n,
	}
	delete(r.Annotations, corev1.LastAppliedConfigAnnotation)
	out, err := c.Client.Create(ctx, api.ControllerRevisions, r, client.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		there, err := c.Client.Get(ctx, api.ControllerRevisions, client.KeyOf(r), client.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read revision %s: %w", r.Name, err)
		}
		if r, ok := there.(*appsv1.ControllerRevision); ok && metav1.IsControlledBy(r, o) && sameData(r.Data.Raw, data) {
			return shownRevision(ctx, c, r, nil) // the cache was behind
		}
		return nil, errCollision
	}
	return shownRevision(ctx, c, out, err)
}

// shownRevision returns what was written when the cache shows it.
func shownRevision(ctx context.Context, c Config, out any, err error) (*appsv1.ControllerRevision, error) {
	if err != nil {
		return nil, fmt.Errorf("write revision: %w", err)
	}
	r, ok := out.(*appsv1.ControllerRevision)
	if !ok {
		return nil, fmt.Errorf("write revision: the answer is a %T", out)
	}
	return r, c.Caches.Revisions.WaitFor(ctx, r.ResourceVersion)
}

// forgetRevisions deletes the oldest versions of which no pod is left, beyond the few that are kept to go back to.
func forgetRevisions(ctx context.Context, c Config, h history, keep *int32, pods []*corev1.Pod) error {
	if keep == nil {
		return nil
	}
	live := map[string]bool{h.hash(): true}
	for _, p := range pods {
		live[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
	}
	spare := slices.DeleteFunc(slices.Clone(h.all), func(r *appsv1.ControllerRevision) bool {
		return r.DeletionTimestamp != nil || live[r.Labels[appsv1.ControllerRevisionHashLabelKey]]
	})
	var w written
	err := each(ctx, spare[:max(0, len(spare)-int(*keep))], func(ctx context.Context, r *appsv1.ControllerRevision) error {
		return deleteObject(ctx, c.Client, api.ControllerRevisions, r, nil, &w)
	})
	return errors.Join(err, w.shown(ctx, c.Caches.Revisions))
}
