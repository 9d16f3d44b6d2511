package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// rule is one row of a kind's tables: a change to a good object, as a merge patch in YAML, and the beginnings of
// "field: message" of everything that is wrong with it then. Without any, the change is accepted.
type rule struct {
	name, change string
	want         []string
}

func toJSON(t *testing.T, text string) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return data
}

// problems lists what a Status says is wrong, sorted.
func problems(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	status := apierrors.APIStatus(nil)
	if !asStatus(err, &status) || !apierrors.IsInvalid(err) {
		t.Fatalf("it is answered with %v", err)
	}
	var all []string
	for _, c := range status.Status().Details.Causes {
		all = append(all, c.Field+": "+c.Message)
	}
	slices.Sort(all)
	return all
}

func compareProblems(t *testing.T, got, want []string) {
	t.Helper()
	left := slices.Clone(got)
	for _, w := range want {
		if i := slices.IndexFunc(left, func(g string) bool { return strings.HasPrefix(g, w) }); i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
	}
	if len(left) > 0 || len(got) != len(want) {
		t.Errorf("it is refused for\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func namespaceOf(k *Kind) string {
	if k.Namespaced {
		return testNamespace
	}
	return ""
}

// testCreation creates the good object, then each changed one.
func testCreation(t *testing.T, k *Kind, good string, rules ...rule) {
	t.Helper()
	for _, r := range append([]rule{{name: "the example is good", change: "{}"}}, rules...) {
		t.Run("create/"+r.name, func(t *testing.T) {
			body, err := jsonpatch.MergePatch(toJSON(t, good), toJSON(t, r.change))
			if err != nil {
				t.Fatal(err)
			}
			_, err = newServer().create(k, namespaceOf(k), body)
			compareProblems(t, problems(t, err), r.want)
		})
	}
}

// testUpdate creates the good object and changes it, through a subresource unless sub is empty.
func testUpdate(t *testing.T, k *Kind, sub, good string, rules ...rule) {
	t.Helper()
	for _, r := range rules {
		t.Run("update/"+r.name, func(t *testing.T) {
			s := newServer()
			o, err := s.create(k, namespaceOf(k), toJSON(t, good))
			if err != nil {
				t.Fatal(err)
			}
			before := asJSON(o)
			_, err = s.patch(k, o.GetNamespace(), o.GetName(), sub, string(types.MergePatchType), toJSON(t, r.change))
			compareProblems(t, problems(t, err), r.want)
			if diff := missing(before, asJSON(o), ""); diff != "" {
				t.Errorf("the stored object was changed: %s", diff)
			}
		})
	}
}

// decodedNew returns what is stored of an object.
func decodedNew(t *testing.T, k *Kind, text string) Object {
	t.Helper()
	o, err := newServer().create(k, namespaceOf(k), toJSON(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// testDefaults wants everything of want in what is stored of given; null means that a field is gone.
func testDefaults(t *testing.T, k *Kind, given, want string) {
	t.Helper()
	var expected any
	if err := json.Unmarshal(toJSON(t, want), &expected); err != nil {
		t.Fatal(err)
	}
	got := asJSON(decodedNew(t, k, given))
	if diff := missing(expected, got, ""); diff != "" {
		t.Errorf("%s: %s", k.Kind, diff)
	}
	for _, at := range nulls(expected, got, "") {
		t.Errorf("%s: %s is there", k.Kind, at)
	}
}

// nulls names the fields that are null in want and not in got.
func nulls(want, got any, at string) []string {
	var all []string
	w, _ := want.(map[string]any)
	g, _ := got.(map[string]any)
	for name, v := range w {
		if v == nil && g[name] != nil {
			all = append(all, at+"."+name)
		}
		all = append(all, nulls(v, g[name], at+"."+name)...)
	}
	return all
}

// testCells wants the cells of an object, read as it is, an hour after its creation.
func testCells(t *testing.T, k *Kind, text string, want ...any) {
	t.Helper()
	o := k.New()
	if err := json.Unmarshal(toJSON(t, text), o); err != nil {
		t.Fatal(err)
	}
	at := metav1.Unix(1600000000, 0)
	o.SetCreationTimestamp(at)
	got := k.Cells(o, at.Add(time.Hour))
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
		t.Errorf("%s: cells\n\t%#v\nwant\n\t%#v", k.Kind, got, want)
	}
}
