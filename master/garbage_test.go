package master_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/api/custom/customtest"
	"shoal/internal/client"
)

// The rules are those of "Owners and Dependents" and "Garbage Collection" in Kubernetes' documentation.

// family makes objects that own each other, of several kinds, one of them defined by a user.
type family struct {
	*cluster
	boats *api.Kind
	kinds map[string]*api.Kind // of each object
}

func inFamily(t *testing.T, f func(fam *family)) {
	t.Helper()
	inCluster(t, 1, func(c *cluster) {
		c.create(api.CustomResourceDefinitions, customtest.Definition(customtest.Boats))
		c.settle()
		boats, ok := c.Kinds().ByResource(schema.GroupVersionResource{Group: "sea.example.com", Version: "v1", Resource: "boats"})
		if !ok {
			t.Fatal("boats are not served")
		}
		f(&family{c, boats, map[string]*api.Kind{}})
	})
}

// add makes an object that those named own, each of which waits for it.
func (f *family) add(k *api.Kind, name string, owners ...string) {
	f.Helper()
	var o api.Object
	switch k {
	case api.Secrets:
		o = &corev1.Secret{}
	case api.ConfigMaps:
		o = &corev1.ConfigMap{}
	default:
		o = &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"hull": "wood"}}}
	}
	o.SetNamespace(metav1.NamespaceDefault)
	o.SetName(name)
	o.SetOwnerReferences(f.refs(owners...))
	f.kinds[name] = k
	f.create(k, o)
}

func (f *family) refs(owners ...string) (refs []metav1.OwnerReference) {
	yes := true
	for _, owner := range owners {
		k := f.kinds[owner]
		refs = append(refs, metav1.OwnerReference{
			APIVersion: k.GroupVersion().String(), Kind: k.Kind, Name: owner, BlockOwnerDeletion: &yes,
			UID: get[api.Object](f.cluster, k, metav1.NamespaceDefault, owner).GetUID(),
		})
	}
	return refs
}

func (f *family) remove(name string, how metav1.DeletionPropagation) {
	f.Helper()
	if _, err := f.Delete(f.Context(), f.kinds[name], client.Key{Namespace: metav1.NamespaceDefault, Name: name}, client.DeleteOptions{Propagation: &how}); err != nil {
		f.Fatal(err)
	}
	f.settle()
}

func (f *family) left() (names []string) {
	f.Helper()
	for _, name := range slices.Sorted(maps.Keys(f.kinds)) {
		_, err := f.Get(f.Context(), f.kinds[name], client.Key{Namespace: metav1.NamespaceDefault, Name: name}, client.GetOptions{})
		switch {
		case err == nil:
			names = append(names, name)
		case !apierrors.IsNotFound(err):
			f.Fatal(err)
		}
	}
	return names
}

func (f *family) want(when string, names ...string) {
	f.Helper()
	if left := f.left(); !slices.Equal(left, names) {
		f.Errorf("%s: %v are left, want %v", when, left, names)
	}
}

func TestWhatHasNoOwnerLeftGoes(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(api.ConfigMaps, "a")
		f.add(f.boats, "b", "a")
		f.add(api.Secrets, "c", "b")
		f.add(api.ConfigMaps, "d")
		f.add(f.boats, "e", "a", "d")
		f.settle()
		f.want("nothing was deleted", "a", "b", "c", "d", "e")
		f.remove("a", metav1.DeletePropagationBackground)
		f.want("one of two owners is gone", "d", "e")
		if refs := get[api.Object](f.cluster, f.boats, metav1.NamespaceDefault, "e").GetOwnerReferences(); len(refs) != 1 || refs[0].Name != "d" {
			t.Errorf("the owners of e: %v", refs)
		}
		f.stop()
		f.remove("d", metav1.DeletePropagationBackground)
		f.want("there is no Master", "e")
		f.lead(2)
		f.settle()
		f.want("the next Master")
	})
}

func TestAnOwnerOfTheSameNameIsAnother(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		f.settle()
		f.stop()
		f.remove("a", metav1.DeletePropagationBackground)
		f.add(f.boats, "a")
		f.lead(2)
		f.settle()
		f.want("a was made anew", "a")
	})
}

func TestAForegroundDeletionGoesFromTheLeaves(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(api.ConfigMaps, "a")
		f.add(f.boats, "b", "a")
		f.add(api.Secrets, "c", "b")
		f.settle()
		var mu sync.Mutex
		gone := map[string]int{} // at which revision
		for _, k := range []*api.Kind{api.ConfigMaps, f.boats, api.Secrets} {
			w, err := f.Watch(f.Context(), k, client.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			go func() {
				for {
					events, err := w.Next(f.Context())
					if err != nil {
						return // closed
					}
					for _, e := range events {
						if e.Type == watch.Deleted {
							mu.Lock()
							gone[e.Object.GetName()], _ = strconv.Atoi(e.Object.GetResourceVersion())
							mu.Unlock()
						}
					}
				}
			}()
		}
		f.remove("a", metav1.DeletePropagationForeground)
		mu.Lock()
		defer mu.Unlock()
		if gone["c"] == 0 || gone["c"] >= gone["b"] || gone["b"] >= gone["a"] {
			t.Errorf("gone at %v, want c, b, a", gone)
		}
	})
}

func TestWhoDoesNotBlockIsNotWaitedFor(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		b := get[*corev1.Secret](f.cluster, api.Secrets, metav1.NamespaceDefault, "b")
		b.OwnerReferences[0].BlockOwnerDeletion = nil
		b.Finalizers = []string{"example.com/hold"}
		if _, err := f.Update(f.Context(), api.Secrets, b, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		f.remove("a", metav1.DeletePropagationForeground)
		f.want("b is held by somebody else", "b")
		modify(f.cluster, api.Secrets, "b", func(b *corev1.Secret) {
			if b.DeletionTimestamp == nil {
				t.Error("it is not even being deleted")
			}
			b.Finalizers = nil
		})
		f.want("b is let go")
	})
}

func TestOrphansStay(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		f.add(f.boats, "c", "a")
		f.settle()
		f.remove("a", metav1.DeletePropagationOrphan)
		f.want("a let them go", "b", "c")
		for _, name := range []string{"b", "c"} {
			if refs := get[api.Object](f.cluster, f.kinds[name], metav1.NamespaceDefault, name).GetOwnerReferences(); len(refs) > 0 {
				t.Errorf("the owners of %s: %v", name, refs)
			}
		}
	})
}

func TestTwoThatOwnEachOtherGo(t *testing.T) {
	for _, how := range []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationBackground} {
		inFamily(t, func(f *family) {
			f.add(f.boats, "a")
			f.add(api.Secrets, "b", "a")
			f.add(api.ConfigMaps, "c", "b")
			a := get[*unstructured.Unstructured](f.cluster, f.boats, metav1.NamespaceDefault, "a")
			a.SetOwnerReferences(f.refs("c"))
			if _, err := f.Update(f.Context(), f.boats, a, client.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			f.settle()
			f.want("a circle", "a", "b", "c")
			f.remove("a", how)
			f.pass(time.Minute)
			f.want("it was broken by " + string(how))
		})
	}
}

// TestWhatCannotBeJudgedStays: an owner of a kind that nobody defines, and one in a namespace of an object that is in none.
func TestWhatCannotBeJudgedStays(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(api.ConfigMaps, "a")
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", OwnerReferences: f.refs("a")}, Provisioner: "example.com/x"}
		f.create(api.StorageClasses, class)
		f.create(api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: "b",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "Ghost", Name: "g", UID: "u"}},
		}})
		f.kinds["b"] = api.Secrets
		f.settle()
		f.remove("a", metav1.DeletePropagationBackground)
		f.pass(time.Minute)
		f.want("its owner is of no kind", "b")
		get[*storagev1.StorageClass](f.cluster, api.StorageClasses, "", "fast")
		if len(f.events("OwnerRefInvalidNamespace")) == 0 {
			t.Error("nothing is said of the storage class")
		}
	})
}

// TestADefinitionThatChangesHidesNoDeletion deletes an owner at the moment when its kind is followed anew.
func TestADefinitionThatChangesHidesNoDeletion(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		f.settle()
		d := get[*apiextensionsv1.CustomResourceDefinition](f.cluster, api.CustomResourceDefinitions, "", "boats.sea.example.com")
		d.Spec.Versions[1].Schema.OpenAPIV3Schema.Description = "What floats."
		if _, err := f.Update(f.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.remove("a", metav1.DeletePropagationBackground)
		f.want("both")
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		f.settle()
		f.remove("a", metav1.DeletePropagationForeground)
		f.want("both again")
	})
}

func TestADefinitionGoesWithItsObjects(t *testing.T) {
	inFamily(t, func(f *family) {
		f.add(f.boats, "a")
		f.add(api.Secrets, "b", "a")
		a := get[*unstructured.Unstructured](f.cluster, f.boats, metav1.NamespaceDefault, "a")
		a.SetFinalizers([]string{"example.com/hold"})
		if _, err := f.Update(f.Context(), f.boats, a, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		key := client.Key{Name: "boats.sea.example.com"}
		if _, err := f.Delete(f.Context(), api.CustomResourceDefinitions, key, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Hour)
		f.want("somebody holds the boat", "a", "b")
		a = get[*unstructured.Unstructured](f.cluster, f.boats, metav1.NamespaceDefault, "a")
		a.SetFinalizers(nil)
		if _, err := f.Update(f.Context(), f.boats, a, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		if _, err := f.Get(f.Context(), api.CustomResourceDefinitions, key, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the definition: %v", err)
		}
		delete(f.kinds, "a")
		f.want("the boat is gone")
	})
}

// TestANamespaceSaysWhatItWaitsFor and goes at once when that is gone, however long it took.
func TestANamespaceSaysWhatItWaitsFor(t *testing.T) {
	inFamily(t, func(f *family) {
		f.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		boat := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"hull": "wood"}}}
		boat.SetNamespace("team")
		boat.SetName("a")
		boat.SetFinalizers([]string{"example.com/hold"})
		f.create(f.boats, boat)
		key := client.Key{Name: "team"}
		if _, err := f.Delete(f.Context(), api.Namespaces, key, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Hour)
		said := map[corev1.NamespaceConditionType]string{}
		for _, c := range get[*corev1.Namespace](f.cluster, api.Namespaces, "", "team").Status.Conditions {
			said[c.Type] = string(c.Status) + " " + c.Message
		}
		for condition, want := range map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining:         "True Some resources are remaining: boats.sea.example.com has 1 resource instances",
			corev1.NamespaceFinalizersRemaining:      "True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
			corev1.NamespaceDeletionContentFailure:   "False All content successfully deleted, may be waiting on finalization",
			corev1.NamespaceDeletionDiscoveryFailure: "False All resources successfully discovered",
			corev1.NamespaceDeletionGVParsingFailure: "False All legacy kube types successfully parsed",
		} {
			if said[condition] != want {
				t.Errorf("%s: %q, want %q", condition, said[condition], want)
			}
		}
		latest, err := f.Get(f.Context(), f.boats, client.Key{Namespace: "team", Name: "a"}, client.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		free := latest.DeepCopyObject().(api.Object)
		free.SetFinalizers(nil)
		if _, err := f.Update(f.Context(), f.boats, free, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		if _, err := f.Get(f.Context(), api.Namespaces, key, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the namespace: %v", err)
		}
	})
}

// TestAKindThatCannotBeDeletedIsSaid has the Master fail to delete Secrets.
func TestAKindThatCannotBeDeletedIsSaid(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.stop()
		c.leadAs(2, &refusing{Interface: c.Registry})
		c.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		c.create(api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "a"}})
		if _, err := c.Delete(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(time.Minute)
		for _, condition := range get[*corev1.Namespace](c, api.Namespaces, "", "team").Status.Conditions {
			if condition.Type == corev1.NamespaceDeletionContentFailure &&
				(condition.Status != corev1.ConditionTrue || !strings.Contains(condition.Message, "secrets") || !strings.Contains(condition.Message, "out of order")) {
				t.Errorf("it says %+v", condition)
			}
		}
		c.stop()
		c.lead(3)
		c.settle()
		if _, err := c.Get(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the namespace: %v", err)
		}
	})
}

// refusing deletes no Secret.
type refusing struct{ client.Interface }

func (r *refusing) Delete(ctx context.Context, k *api.Kind, key client.Key, o client.DeleteOptions) (api.Object, error) {
	if k == api.Secrets {
		return nil, apierrors.NewServiceUnavailable("out of order")
	}
	return r.Interface.Delete(ctx, k, key, o)
}
