package openapi

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	shoalapi "shoal/internal/api"
)

var update = flag.Bool("update", false, "rewrite facts.txt from the sources of the types")

// allTypes returns every type that the scheme's types are made of and that has a name of its own: structs and strings.
func allTypes(s *runtime.Scheme) []reflect.Type {
	seen := map[reflect.Type]bool{}
	var out []reflect.Type
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(t.Elem())
			return
		case reflect.String:
			if t.PkgPath() == "" {
				return
			}
		case reflect.Struct:
		default:
			return
		}
		if seen[t] || special(t, v2, &object{}) {
			return
		}
		seen[t] = true
		out = append(out, t)
		if t.Kind() == reflect.Struct {
			for i := range t.NumField() {
				if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
					visit(f.Type)
				}
			}
		}
	}
	for gvk, t := range s.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			visit(t)
		}
	}
	slices.SortFunc(out, func(a, b reflect.Type) int { return strings.Compare(typeName(a), typeName(b)) })
	return out
}

func TestFactsAreWhatTheSourcesSay(t *testing.T) {
	types := allTypes(shoalapi.NewScheme())
	var packages []string
	for _, typ := range types {
		packages = append(packages, typ.PkgPath())
	}
	slices.Sort(packages)
	got := readSources(t, slices.Compact(packages)).facts(t, types)
	if *update {
		if err := os.WriteFile("facts.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got == factsText {
		return
	}
	want, has := strings.Split(got, "\n"), strings.Split(factsText, "\n")
	for i := range want {
		if i >= len(has) || want[i] != has[i] {
			t.Fatalf("facts.txt differs from the sources from line %d on: want %q; run go test ./master/api/openapi -run Facts -update", i+1, want[i])
		}
	}
	t.Fatal("facts.txt has lines too many; run go test ./master/api/openapi -run Facts -update")
}
