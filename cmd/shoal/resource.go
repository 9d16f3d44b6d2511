package main

import (
	"fmt"
	"slices"
	"strings"

	"shoal/internal/api"
)

// findKind finds a row of the kinds table by any of the names people use: pods, pod, po, Pod, pods.v1, endpointslices.discovery.k8s.io.
func findKind(name string) (*api.Kind, error) {
	want := strings.ToLower(name)
	want, group, _ := strings.Cut(want, ".")
	for _, k := range api.Kinds() {
		if group != "" && group != k.Group && group != k.Version && group != k.Version+"."+k.Group {
			continue
		}
		if want == k.Resource || want == strings.ToLower(k.Kind) || slices.Contains(k.ShortNames, want) {
			return k, nil
		}
	}
	return nil, usagef("no kind is called %q: the kinds are %s; kubectl also knows those that CustomResourceDefinitions define", name, strings.Join(kindNames(), ", "))
}

func kindNames() []string {
	var names []string
	for _, k := range api.Kinds() {
		if k.Stored == nil {
			names = append(names, k.Resource)
		}
	}
	slices.Sort(names)
	return names
}

// findKinds resolves a comma-separated list of kinds or categories ("pods,svc", "all").
func findKinds(list string) ([]*api.Kind, error) {
	var kinds []*api.Kind
	for name := range strings.SplitSeq(list, ",") {
		var members []*api.Kind
		for _, k := range api.Kinds() {
			if slices.Contains(k.Categories, name) && k.Stored == nil {
				members = append(members, k)
			}
		}
		if len(members) > 0 {
			kinds = append(kinds, members...)
			continue
		}
		k, err := findKind(name)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// target is what a command is about: one object, or with an empty name every object of a kind.
type target struct {
	kind *api.Kind
	name string
}

// parseTargets reads the arguments of get, delete and the like: "pods", "pods web-1 web-2", "pod/web-1 svc/web", "pods,svc".
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, usagef("name a kind, for example: shoal get pods (the kinds are %s)", strings.Join(kindNames(), ", "))
	}
	if strings.Contains(args[0], "/") {
		var all []target
		for _, a := range args {
			kind, name, ok := strings.Cut(a, "/")
			if !ok || kind == "" || name == "" {
				return nil, usagef("%q: when one argument is KIND/NAME, all must be", a)
			}
			k, err := findKind(kind)
			if err != nil {
				return nil, err
			}
			all = append(all, target{k, name})
		}
		return all, nil
	}
	kinds, err := findKinds(args[0])
	if err != nil {
		return nil, err
	}
	var all []target
	for _, k := range kinds {
		if len(args) == 1 {
			all = append(all, target{kind: k})
		}
		for _, name := range args[1:] {
			all = append(all, target{k, name})
		}
	}
	return all, nil
}

// path returns the URL path of a kind's objects, or of one of them, or of a subresource.
func path(k *api.Kind, namespace, name string, sub ...string) string {
	p := "/apis/" + k.Group + "/" + k.Version
	if k.Group == "" {
		p = "/api/" + k.Version
	}
	if k.Namespaced && namespace != "" {
		p += "/namespaces/" + namespace
	}
	p += "/" + k.Resource
	if name != "" {
		p += "/" + name
	}
	for _, s := range sub {
		p += "/" + s
	}
	return p
}

// shown is how messages name an object: pod/web-1.
func shown(k *api.Kind, name string) string {
	return fmt.Sprintf("%s/%s", strings.ToLower(k.Kind), name)
}
