package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	shoalapi "shoal/internal/api"
)

// discovery is every discovery document of one generation of the kinds table.
type discovery struct {
	generation uint64
	versions   *metav1.APIVersions
	groups     *metav1.APIGroupList
	lists      map[schema.GroupVersion]*metav1.APIResourceList
	aggregated map[bool]*apidiscoveryv2.APIGroupDiscoveryList // by "is the core group"
}

// discovery returns the documents of what is served now, which are made when they are first asked for.
func (s *Server) discovery() *discovery {
	t := s.reg.Kinds()
	d := s.documents.Load()
	if d == nil || d.generation != t.Generation() {
		d = newDiscovery(t)
		s.documents.Store(d)
	}
	return d
}

func newDiscovery(t *shoalapi.Table) *discovery {
	d := &discovery{
		generation: t.Generation(),
		versions:   &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}},
		groups:     &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}, Groups: []metav1.APIGroup{}},
		lists:      map[schema.GroupVersion]*metav1.APIResourceList{},
		aggregated: map[bool]*apidiscoveryv2.APIGroupDiscoveryList{},
	}
	var order []schema.GroupVersion
	for _, k := range t.Kinds() {
		gv := k.GroupVersion()
		if d.lists[gv] == nil {
			order = append(order, gv)
			d.lists[gv] = &metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: gv.String(),
			}
		}
		d.lists[gv].APIResources = append(d.lists[gv].APIResources, resourcesOf(k)...)
	}
	for _, q := range questions() {
		gv := schema.GroupVersion{Group: q.Group, Version: q.Version}
		if d.lists[gv] == nil {
			order = append(order, gv)
			d.lists[gv] = &metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: gv.String(),
			}
		}
		q.Group, q.Version = "", ""
		d.lists[gv].APIResources = append(d.lists[gv].APIResources, q)
	}
	// Within a group the versions of custom kinds come best first, wherever their definitions stand.
	place := map[string]int{}
	for i, gv := range order {
		if _, ok := place[gv.Group]; !ok {
			place[gv.Group] = i
		}
	}
	slices.SortStableFunc(order, func(a, b schema.GroupVersion) int {
		return cmp.Or(cmp.Compare(place[a.Group], place[b.Group]), version.CompareKubeAwareVersionStrings(b.Version, a.Version))
	})
	for _, gv := range order {
		slices.SortFunc(d.lists[gv].APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
		if gv.Group != "" {
			d.groups.Groups = addVersion(d.groups.Groups, gv)
		}
	}
	for _, core := range []bool{true, false} {
		d.aggregated[core] = d.aggregate(order, core)
	}
	return d
}

// questions are the resources of virtual.go.
func questions() []metav1.APIResource {
	one := func(group, name, kind string, namespaced bool) metav1.APIResource {
		return metav1.APIResource{Name: name, SingularName: strings.ToLower(kind), Group: group, Version: "v1", Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{"create"}}
	}
	measured := func(name, kind string, namespaced bool) metav1.APIResource {
		r := one("metrics.k8s.io", name, kind, namespaced)
		r.Version, r.Verbs, r.SingularName = "v1beta1", metav1.Verbs{"get", "list"}, ""
		return r
	}
	components := one("", "componentstatuses", "ComponentStatus", false)
	components.Verbs, components.ShortNames = metav1.Verbs{"get", "list"}, []string{"cs"}
	return []metav1.APIResource{
		components,
		measured("nodes", "NodeMetrics", false),
		measured("pods", "PodMetrics", true),
		one("", "bindings", "Binding", true),
		one("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false),
		one("authentication.k8s.io", "tokenreviews", "TokenReview", false),
		one("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
		one("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
		one("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", false),
		one("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true),
	}
}

func resourcesOf(k *shoalapi.Kind) []metav1.APIResource {
	out := []metav1.APIResource{{
		Name: k.Resource, SingularName: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind, Verbs: verbsOf(k),
		ShortNames: k.ShortNames, Categories: k.Categories, StorageVersionHash: storageVersionHash(k.GroupVersionKind),
	}}
	for _, sub := range k.Subresources {
		r := metav1.APIResource{Name: k.Resource + "/" + sub.Name, Namespaced: k.Namespaced, Kind: sub.Kind, Verbs: sub.Verbs}
		if r.Kind == "" {
			r.Kind = k.Kind
		}
		if sub.Group != "" && sub.Group != k.Group {
			r.Group, r.Version = sub.Group, "v1"
		}
		out = append(out, r)
	}
	return out
}

// unknown answers for what is not there. A group that nobody has heard of is no API error, as in Kubernetes, but a page not found.
func (s *Server) unknown(w http.ResponseWriter, r *request, group string) {
	for gv := range s.discovery().lists {
		if gv.Group == group {
			s.fail(w, r, notServed())
			return
		}
	}
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// group is that of the path of a discovery document.
func group(parts []string) string {
	if parts[0] == "api" || len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// storageVersionHash changes when a kind is stored in another version, as Kubernetes makes it.
func storageVersionHash(gvk schema.GroupVersionKind) string {
	sum := sha256.Sum256([]byte(gvk.Group + "/" + gvk.Version + "/" + gvk.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// addVersion adds a version to its group, which may be new. The first one is the preferred one.
func addVersion(groups []metav1.APIGroup, gv schema.GroupVersion) []metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	if i := slices.IndexFunc(groups, func(g metav1.APIGroup) bool { return g.Name == gv.Group }); i >= 0 {
		groups[i].Versions = append(groups[i].Versions, v)
		return groups
	}
	return append(groups, metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
}

func (d *discovery) aggregate(order []schema.GroupVersion, core bool) *apidiscoveryv2.APIGroupDiscoveryList {
	out := &apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
		Items:    []apidiscoveryv2.APIGroupDiscovery{},
	}
	for _, gv := range order {
		if (gv.Group == "") != core {
			continue
		}
		v := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		for _, r := range d.lists[gv].APIResources {
			parent, sub, isSub := strings.Cut(r.Name, "/")
			kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: r.Kind}
			if r.Group != "" {
				kind.Group, kind.Version = r.Group, r.Version
			}
			if isSub {
				// Sorted by name, so the parent is there already.
				for i := range v.Resources {
					if v.Resources[i].Resource == parent {
						v.Resources[i].Subresources = append(v.Resources[i].Subresources, apidiscoveryv2.APISubresourceDiscovery{
							Subresource: sub, ResponseKind: kind, Verbs: r.Verbs,
						})
					}
				}
				continue
			}
			scope := apidiscoveryv2.ScopeCluster
			if r.Namespaced {
				scope = apidiscoveryv2.ScopeNamespace
			}
			v.Resources = append(v.Resources, apidiscoveryv2.APIResourceDiscovery{
				Resource: r.Name, ResponseKind: kind, Scope: scope, SingularResource: r.SingularName, Verbs: r.Verbs,
				ShortNames: r.ShortNames, Categories: r.Categories,
			})
		}
		i := slices.IndexFunc(out.Items, func(g apidiscoveryv2.APIGroupDiscovery) bool { return g.Name == gv.Group })
		if i < 0 {
			i = len(out.Items)
			out.Items = append(out.Items, apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		}
		out.Items[i].Versions = append(out.Items[i].Versions, v)
	}
	return out
}

// serveDiscovery answers /api, /apis, /api/v1, /apis/GROUP and /apis/GROUP/VERSION.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *request, parts []string) {
	var ok bool
	if r.format, ok = negotiate(r.Header.Get("Accept"), discoveryFormats); !ok {
		s.fail(w, r, notAcceptable(discoveryFormats.String()))
		return
	}
	obj := s.discovery().find(parts, r.format.as == asDiscovery, r.Host)
	if obj == nil {
		s.unknown(w, r, group(parts))
		return
	}
	f := r.format.plain()
	if _, ok := obj.(*apidiscoveryv2.APIGroupDiscoveryList); ok {
		body, err := encodeObject(f, obj)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.writeBody(w, r, f.media+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", http.StatusOK, body)
		return
	}
	s.writeObject(w, r, f, http.StatusOK, obj)
}

func (d *discovery) find(parts []string, aggregated bool, host string) runtime.Object {
	core := parts[0] == "api"
	switch {
	case len(parts) == 1 && aggregated:
		return d.aggregated[core]
	case len(parts) == 1 && core:
		v := *d.versions
		v.ServerAddressByClientCIDRs = []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: host}}
		return &v
	case len(parts) == 1:
		return d.groups
	case len(parts) == 2 && core:
		return listOrNil(d.lists[schema.GroupVersion{Version: parts[1]}])
	case len(parts) == 2:
		for i := range d.groups.Groups {
			if d.groups.Groups[i].Name == parts[1] {
				g := d.groups.Groups[i]
				g.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroup"}
				return &g
			}
		}
	case len(parts) == 3 && !core:
		return listOrNil(d.lists[schema.GroupVersion{Group: parts[1], Version: parts[2]}])
	}
	return nil
}

// listOrNil keeps a nil pointer from becoming a non-nil interface.
func listOrNil(l *metav1.APIResourceList) runtime.Object {
	if l == nil {
		return nil
	}
	return l
}
