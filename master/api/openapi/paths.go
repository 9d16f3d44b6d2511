package openapi

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// bodies answers what the document calls the schema of a kind. An empty object means anything.
type bodies interface {
	kind(schema.GroupVersionKind) object
	list(*Resource) object
	meta(name string) object // Status, DeleteOptions, Patch of meta/v1
}

// paths adds the paths of resources to a document.
type paths struct {
	dialect dialect
	bodies  bodies
	items   object
}

// operation is what is known before it is written down.
type operation struct {
	method string
	action string // as x-kubernetes-action and the parameters have it
	id     string
	kind   schema.GroupVersionKind
	answer object
	body   object // nil for none
}

func (p *paths) resource(r *Resource) {
	base, scope, title := "/"+pathOf(r.GroupVersion()), "", r.Kind
	in := []param{prettyParam}
	if r.Namespaced {
		scope, title = "/namespaces/{namespace}", "Namespaced"+r.Kind
		in = append([]param{namespaceParam}, in...)
	}
	if r.Namespaced && slices.Contains(r.Verbs, "list") {
		p.path(base+"/"+r.Resource, r, []param{prettyParam}, []operation{p.listing(r, r.Kind+"ForAllNamespaces")})
	}
	collection, one := base+scope+"/"+r.Resource, base+scope+"/"+r.Resource+"/{name}"
	p.path(collection, r, in, p.collection(r, title))
	of := append([]param{nameParam}, in...)
	p.path(one, r, of, p.object(r, r.GroupVersionKind, r.Verbs, title))
	for _, s := range r.Subs {
		if stream(s.Name) {
			p.path(one+"/"+s.Name, r, of, p.streams(r, s, title))
			continue
		}
		p.path(one+"/"+s.Name, r, of, p.object(r, s.Kind, s.Verbs, title+camel(s.Name)))
	}
}

// stream reports whether a subresource is a connection rather than an object.
func stream(sub string) bool {
	return slices.Contains([]string{"attach", "exec", "portforward", "proxy"}, sub)
}

func (p *paths) listing(r *Resource, title string) operation {
	return operation{"get", "list", "list" + idOf(r) + title, r.GroupVersionKind, p.bodies.list(r), nil}
}

// collection returns what can be done to all objects of a resource.
func (p *paths) collection(r *Resource, title string) []operation {
	var ops []operation
	for _, verb := range r.Verbs {
		switch verb {
		case "list":
			ops = append(ops, p.listing(r, title))
		case "create":
			k := p.bodies.kind(r.GroupVersionKind)
			ops = append(ops, operation{"post", "post", "create" + idOf(r) + title, r.GroupVersionKind, k, k})
		case "deletecollection":
			ops = append(ops, operation{
				"delete", "deletecollection", "delete" + idOf(r) + "Collection" + title, r.GroupVersionKind,
				p.bodies.meta("Status"), p.bodies.meta("DeleteOptions"),
			})
		}
	}
	return ops
}

// object returns what can be done to one object, or to a subresource of it: there verbs may include create.
func (p *paths) object(r *Resource, kind schema.GroupVersionKind, verbs []string, title string) []operation {
	var ops []operation
	k := p.bodies.kind(kind)
	sub := kind != r.GroupVersionKind || strings.TrimPrefix(title, "Namespaced") != r.Kind
	for _, verb := range verbs {
		switch verb {
		case "get":
			ops = append(ops, operation{"get", "get", "read" + idOf(r) + title, kind, k, nil})
		case "update":
			ops = append(ops, operation{"put", "put", "replace" + idOf(r) + title, kind, k, k})
		case "patch":
			ops = append(ops, operation{"patch", "patch", "patch" + idOf(r) + title, kind, k, p.bodies.meta("Patch")})
		case "delete":
			ops = append(ops, operation{"delete", "delete", "delete" + idOf(r) + title, kind, p.bodies.meta("Status"), p.bodies.meta("DeleteOptions")})
		case "create":
			if sub {
				ops = append(ops, operation{"post", "post", "create" + idOf(r) + title, kind, k, k})
			}
		}
	}
	return ops
}

func (p *paths) streams(r *Resource, s Sub, title string) []operation {
	var ops []operation
	for _, verb := range s.Verbs {
		method := map[string]string{"get": "get", "create": "post"}[verb]
		if method != "" {
			ops = append(ops, operation{method, "connect", "connect" + idOf(r) + camel(method) + title + camel(s.Name), s.Kind, object{{"type", "string"}}, nil})
		}
	}
	return ops
}

// path writes the operations of one path.
func (p *paths) path(url string, r *Resource, in []param, ops []operation) {
	if len(ops) == 0 {
		return
	}
	var item object
	for _, op := range ops {
		item.add(op.method, p.operation(r, op))
	}
	item.sort()
	item.add("parameters", p.dialect.params(in))
	p.items.add(url, item)
}

var (
	answerMedia = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	patchMedia  = []string{
		"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
	}
)

// patchMediaOf are the ways of patching a resource. How lists merge strategically is said by Go types: kubectl sends such a patch where it is offered.
func patchMediaOf(r *Resource) []string {
	if r.Schema == nil {
		return patchMedia
	}
	return slices.DeleteFunc(slices.Clone(patchMedia), func(m string) bool { return strings.HasPrefix(m, "application/strategic") })
}

func (p *paths) operation(r *Resource, op operation) object {
	o := object{{"operationId", op.id}}
	params := p.dialect.params(paramsOf(op.action))
	code := "200"
	if op.method == "post" {
		code = "201"
	}
	if p.dialect == v2 {
		if op.action == "patch" {
			o.add("consumes", patchMediaOf(r))
		}
		if op.body != nil {
			body := object{{"in", "body"}, {"name", "body"}, {"schema", op.body}}
			if op.action != "delete" && op.action != "deletecollection" {
				body.add("required", true)
			}
			params = append([]any{body}, params...)
		}
		o.add("responses", object{{code, object{{"description", "OK"}, {"schema", op.answer}}}})
	} else {
		if op.body != nil {
			media := []string{"*/*"}
			if op.action == "patch" {
				media = patchMediaOf(r)
			}
			o.add("requestBody", object{{"content", content(media, op.body)}})
		}
		o.add("responses", object{{code, object{{"description", "OK"}, {"content", content(answerMedia, op.answer)}}}})
	}
	if len(params) > 0 {
		o.add("parameters", params)
	}
	o.add("tags", []string{tagOf(r.GroupVersion())})
	o.add("x-kubernetes-action", op.action)
	o.add("x-kubernetes-group-version-kind", kindObject(op.kind))
	return o
}

func content(media []string, schema object) object {
	var o object
	for _, m := range media {
		o.add(m, object{{"schema", schema}})
	}
	return o
}

// idOf is the group and version in operation ids: CoreV1, AppsV1, RbacAuthorizationV1.
func idOf(r *Resource) string {
	return camel(shortGroup(r.Group)) + camel(r.Version)
}

func tagOf(gv schema.GroupVersion) string {
	g := shortGroup(gv.Group)
	return strings.ToLower(g[:1]) + g[1:] + "_" + gv.Version
}

// shortGroup drops what every group of Kubernetes ends in and joins the rest in camel case.
func shortGroup(group string) string {
	if group == "" {
		return "core"
	}
	var s string
	for _, part := range strings.FieldsFunc(strings.TrimSuffix(group, ".k8s.io"), func(c rune) bool { return c == '.' || c == '-' }) {
		s += camel(part)
	}
	return s
}

func camel(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
