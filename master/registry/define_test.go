package registry_test

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/api/custom/customtest"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// define stores the definition of boats and establishes it, as the Master would.
func define(t *testing.T, r *registry.Registry) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	out, err := r.Create(t.Context(), api.CustomResourceDefinitions, customtest.Definition(customtest.Boats), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := out.(*apiextensionsv1.CustomResourceDefinition).DeepCopy()
	customtest.Establish(d)
	out, err = r.Update(t.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	d = out.(*apiextensionsv1.CustomResourceDefinition)
	shows(t, r, d)
	return d
}

// shows waits until reads include an object.
func shows(t *testing.T, r *registry.Registry, o api.Object) {
	t.Helper()
	if _, err := r.Get(t.Context(), api.CustomResourceDefinitions, client.KeyOf(o), client.GetOptions{ResourceVersion: o.GetResourceVersion()}); err != nil {
		t.Fatal(err)
	}
}

func boat(t *testing.T, r *registry.Registry, version string) *api.Kind {
	t.Helper()
	k, ok := r.Kinds().ByResource(schema.GroupVersionResource{Group: "sea.example.com", Version: version, Resource: "boats"})
	if !ok {
		t.Fatal("boats are not served")
	}
	return k
}

func newBoat(k *api.Kind, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(k.GroupVersionKind)
	u.SetNamespace("default")
	u.SetName(name)
	return u
}

func TestADefinedKindIsServedOnceItIsEstablished(t *testing.T) {
	r, _ := registrytest.New(t)
	changed := r.Live().Changed()
	if _, ok := r.Kinds().ByResource(schema.GroupVersionResource{Group: "sea.example.com", Version: "v1", Resource: "boats"}); ok {
		t.Fatal("served before it is defined")
	}
	define(t, r)
	<-changed
	k := boat(t, r, "v1")
	made, err := r.Create(t.Context(), k, newBoat(k, "b", map[string]any{"hull": "wood"}), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := made.(*unstructured.Unstructured)
	if oars, _, _ := unstructured.NestedInt64(o.Object, "spec", "oars"); oars != 2 || o.GetUID() == "" || o.GetGeneration() != 1 {
		t.Errorf("made %v", o)
	}
	// The other version shows the same object.
	old := boat(t, r, "v1beta1")
	e, err := r.GetEntry(t.Context(), old, client.Key{Namespace: "default", Name: "b"}, client.GetOptions{})
	if err != nil || e.Object.GetUID() != o.GetUID() || e.Object.GetObjectKind().GroupVersionKind().Version != "v1beta1" {
		t.Errorf("as v1beta1: %v, %v", e, err)
	}
	_, err = r.Create(t.Context(), k, newBoat(k, "c", map[string]any{"hull": "glass"}), client.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a boat of glass: %v", err)
	}
}

func TestCustomObjectsAreChangedInEveryWay(t *testing.T) {
	r, _ := registrytest.New(t)
	define(t, r)
	k, key := boat(t, r, "v1"), client.Key{Namespace: "default", Name: "b"}
	patch := func(how types.PatchType, body, sub string) (*unstructured.Unstructured, error) {
		out, err := r.Patch(t.Context(), k, key, client.Patch{Type: how, Data: []byte(body)}, client.PatchOptions{Subresource: sub, FieldManager: "me", FieldValidation: "Strict"})
		u, _ := out.(*unstructured.Unstructured)
		return u, err
	}
	const whole = `{"apiVersion":"sea.example.com/v1","kind":"Boat","metadata":{"name":"b"},"spec":`
	if _, err := patch(types.ApplyPatchType, whole+`{"hull":"wood","crew":[{"name":"a"}]}}`, ""); err != nil {
		t.Fatal(err)
	}
	// Another manager's list item is merged by its key.
	out, err := r.Patch(t.Context(), k, key, client.Patch{Type: types.ApplyPatchType, Data: []byte(whole + `{"crew":[{"name":"z"}]}}`)}, client.PatchOptions{FieldManager: "you"})
	if err != nil {
		t.Fatal(err)
	}
	if crew, _, _ := unstructured.NestedSlice(out.(*unstructured.Unstructured).Object, "spec", "crew"); len(crew) != 2 {
		t.Errorf("crew %v", crew)
	}
	if _, err := patch(types.ApplyPatchType, whole+`{"hull":"wood","masts":1}}`, ""); !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
		t.Errorf("apply of an unknown field: %v", err)
	}
	u, err := patch(types.MergePatchType, `{"spec":{"oars":7},"status":{"oars":9}}`, "")
	if err != nil || u.GetGeneration() != 3 || u.Object["status"] != nil {
		t.Errorf("merge made %v, %v", u, err)
	}
	u, err = patch(types.MergePatchType, `{"spec":{"oars":1},"status":{"oars":9}}`, "status")
	if oars, _, _ := unstructured.NestedInt64(u.Object, "spec", "oars"); err != nil || oars != 7 || u.GetGeneration() != 3 || u.Object["status"] == nil {
		t.Errorf("status made %v, %v", u, err)
	}
	if _, err = patch(types.JSONPatchType, `[{"op":"add","path":"/spec/masts","value":1}]`, ""); !apierrors.IsInvalid(err) {
		t.Errorf("an unknown field, strictly: %v", err)
	}
	if _, err = patch(types.StrategicMergePatchType, `{}`, ""); apierrors.ReasonForError(err) != metav1.StatusReasonUnsupportedMediaType {
		t.Errorf("strategic merge: %v", err)
	}
	s, err := r.Patch(t.Context(), k, key, client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":3}}`)}, client.PatchOptions{Subresource: "scale"})
	if b, _ := json.Marshal(s); err != nil || s == nil {
		t.Errorf("scale: %s, %v", b, err)
	}
	e, err := r.GetEntry(t.Context(), k, key, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if oars, _, _ := unstructured.NestedInt64(e.Object.(*unstructured.Unstructured).Object, "spec", "oars"); oars != 3 {
		t.Errorf("scaled to %d", oars)
	}
}

func TestDefinitionsAreApplied(t *testing.T) {
	r, _ := registrytest.New(t)
	apply := func(text string) (*apiextensionsv1.CustomResourceDefinition, error) {
		out, err := r.Patch(t.Context(), api.CustomResourceDefinitions, client.Key{Name: "boats.sea.example.com"},
			client.Patch{Type: types.ApplyPatchType, Data: []byte(text)}, client.PatchOptions{FieldManager: "me"})
		if err != nil {
			return nil, err
		}
		return out.(*apiextensionsv1.CustomResourceDefinition), nil
	}
	if _, err := apply(customtest.Boats); err != nil {
		t.Fatal(err)
	}
	d, err := apply(strings.Replace(customtest.Boats, "shortNames: [bo]", "shortNames: [ba]", 1))
	if err != nil || len(d.Spec.Names.ShortNames) != 1 || d.Spec.Names.ShortNames[0] != "ba" || len(d.Spec.Versions) != 2 || d.Generation != 2 {
		t.Errorf("applied again: %+v, %v", d, err)
	}
}

func TestAStricterSchemaTakesEffect(t *testing.T) {
	r, _ := registrytest.New(t)
	d := define(t, r)
	before := boat(t, r, "v1")
	w, err := r.Watch(t.Context(), before, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// What changes nothing of the kind leaves its row, and its watches, alone.
	d = d.DeepCopy()
	d.Labels = map[string]string{"a": "b"}
	out, err := r.Update(t.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	shows(t, r, out.(api.Object))
	if boat(t, r, "v1") != before {
		t.Error("a label made another row")
	}
	d = out.(*apiextensionsv1.CustomResourceDefinition).DeepCopy()
	spec := d.Spec.Versions[1].Schema.OpenAPIV3Schema.Properties["spec"]
	spec.Required = append(spec.Required, "name")
	d.Spec.Versions[1].Schema.OpenAPIV3Schema.Properties["spec"] = spec
	if out, err = r.Update(t.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	shows(t, r, out.(api.Object))
	k := boat(t, r, "v1")
	if _, err := r.Create(t.Context(), k, newBoat(k, "b", map[string]any{"hull": "wood"}), client.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("without a name: %v", err)
	}
	if _, err := w.Next(t.Context()); !apierrors.IsResourceExpired(err) && !errors.Is(err, io.EOF) {
		t.Errorf("the watch of the old row: %v", err)
	}
}

func TestADeletedDefinitionWaitsForItsObjects(t *testing.T) {
	r, _ := registrytest.New(t)
	d := define(t, r)
	k := boat(t, r, "v1")
	if _, err := r.Create(t.Context(), k, newBoat(k, "b", map[string]any{"hull": "wood"}), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	gone, err := r.Delete(t.Context(), api.CustomResourceDefinitions, client.KeyOf(d), client.DeleteOptions{})
	if err != nil || gone.GetDeletionTimestamp() == nil {
		t.Fatal(gone, err)
	}
	shows(t, r, gone)
	k = boat(t, r, "v1")
	if _, err := r.Create(t.Context(), k, newBoat(k, "c", map[string]any{"hull": "wood"}), client.CreateOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a new boat: %v", err)
	}
	if l, err := r.List(t.Context(), k, client.ListOptions{}); err != nil || len(l.Items) != 1 {
		t.Errorf("the old ones: %v, %v", l, err)
	}
	// The Master says how far it is.
	status := gone.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition)
	status.Status.Conditions = append(status.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue})
	said, err := r.Update(t.Context(), api.CustomResourceDefinitions, status, client.UpdateOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	gone = said.(api.Object)
	last := gone.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition)
	last.Finalizers = nil
	if _, err := r.Update(t.Context(), api.CustomResourceDefinitions, last, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Kinds().ByResource(k.GVR()); ok {
		t.Error("still served")
	}
}

// A peer that starts, or gets a snapshot, serves what was defined long ago.
func TestDefinitionsAreServedFromTheStart(t *testing.T) {
	r, l := registrytest.New(t)
	define(t, r)
	k := boat(t, r, "v1")
	if _, err := r.Create(t.Context(), k, newBoat(k, "b", map[string]any{"hull": "wood"}), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	again := registrytest.Start(t, registrytest.Config(l))
	if err := again.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err := again.List(t.Context(), boat(t, again, "v1beta1"), client.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
}

// TestReadersWaitThroughAChangeOfTheirKind has a get, a list and two watches wait for a revision, which is that of the definition's change.
func TestReadersWaitThroughAChangeOfTheirKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registrytest.New(t)
		d := define(t, r)
		k := boat(t, r, "v1")
		if _, err := r.Create(t.Context(), k, newBoat(k, "b", map[string]any{"hull": "wood"}), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		l, err := r.List(t.Context(), k, client.ListOptions{})
		if err != nil || len(l.Items) != 1 {
			t.Fatalf("%d boats, %v", len(l.Items), err)
		}
		now, err := strconv.Atoi(l.ResourceVersion)
		if err != nil {
			t.Fatal(err)
		}
		next := strconv.Itoa(now + 1)
		var readers sync.WaitGroup
		readers.Go(func() {
			if _, err := r.Get(t.Context(), k, client.Key{Namespace: "default", Name: "b"}, client.GetOptions{ResourceVersion: next}); err != nil {
				t.Errorf("get: %v", err)
			}
		})
		readers.Go(func() {
			if l, err := r.List(t.Context(), k, client.ListOptions{ResourceVersion: next}); err != nil || len(l.Items) != 1 {
				t.Errorf("list: %v, %v", l, err)
			}
		})
		yes := true
		for _, o := range []client.ListOptions{{}, {ResourceVersion: next, SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}} {
			readers.Go(func() {
				w, err := r.Watch(t.Context(), k, o)
				if err != nil {
					t.Errorf("watch: %v", err)
					return
				}
				defer w.Close()
				if events, err := w.Next(t.Context()); err != nil || len(events) == 0 || events[0].Object.GetName() != "b" {
					t.Errorf("watch: %v, %v", events, err)
				}
			})
		}
		synctest.Wait()
		d = d.DeepCopy()
		d.Spec.Versions[1].Schema.OpenAPIV3Schema.Description = "What floats."
		if _, err := r.Update(t.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		readers.Wait()
	})
}

// TestRulesInCELHold however an object is written.
func TestRulesInCELHold(t *testing.T) {
	r, _ := registrytest.New(t)
	d := define(t, r).DeepCopy()
	for i := range d.Spec.Versions {
		if d.Spec.Versions[i].Name != "v1" {
			continue
		}
		s := d.Spec.Versions[i].Schema.OpenAPIV3Schema
		spec := s.Properties["spec"]
		spec.XValidations = apiextensionsv1.ValidationRules{{Rule: "!has(self.oars) || self.oars % 2 == 0", Message: "oars come in pairs"}}
		s.Properties["spec"] = spec
	}
	out, err := r.Update(t.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	shows(t, r, out.(*apiextensionsv1.CustomResourceDefinition))
	k := boat(t, r, "v1")
	with := func(oars int64) api.Object {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "sea.example.com/v1", "kind": "Boat", "metadata": map[string]any{"name": "b", "namespace": "default"}, "spec": map[string]any{"hull": "wood", "oars": oars},
		}}
	}
	refused := func(what string, err error) {
		t.Helper()
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "oars come in pairs") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = r.Create(t.Context(), k, with(3), client.CreateOptions{})
	refused("create", err)
	if _, err := r.Create(t.Context(), k, with(4), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	key := client.Key{Namespace: "default", Name: "b"}
	for what, p := range map[string]client.Patch{
		"merge patch": {Type: types.MergePatchType, Data: []byte(`{"spec":{"oars":5}}`)},
		"apply":       {Type: types.ApplyPatchType, Data: []byte(`{"apiVersion":"sea.example.com/v1","kind":"Boat","metadata":{"name":"b","namespace":"default"},"spec":{"oars":7}}`)},
	} {
		_, err := r.Patch(t.Context(), k, key, p, client.PatchOptions{FieldManager: "me", Force: p.Type == types.ApplyPatchType})
		refused(what, err)
	}
	if _, err := r.Patch(t.Context(), k, key, client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"oars":6}}`)}, client.PatchOptions{}); err != nil {
		t.Error(err)
	}
}
