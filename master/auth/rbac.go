package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Grant gives subjects rules: a binding together with the role it names.
type Grant struct {
	Subjects []rbacv1.Subject
	// Namespace limits the rules to one namespace and to resources; empty means everywhere.
	Namespace string
	Rules     []rbacv1.PolicyRule
	Binding   string // which binding it is, for people; empty for those that every cluster has
}

// Grants is where bindings come from.
type Grants interface {
	// Grants returns those that hold in a namespace and those that hold everywhere. The result is shared and read-only.
	Grants(ctx context.Context, namespace string) ([]Grant, error)
}

// Authorizer decides by the built-in grants and those of its sources, and holds nodes to what is theirs.
type Authorizer struct {
	builtin []Grant
	sources []Grants
	nodes   *NodeRestriction
}

// NewAuthorizer returns an Authorizer. A nil nodes means that nodes are held to their rules only, for tests.
func NewAuthorizer(nodes *NodeRestriction, sources ...Grants) *Authorizer {
	return &Authorizer{builtin: Builtin(), sources: sources, nodes: nodes}
}

// Authorize returns nil if u may do a, a Forbidden StatusError if not, Unauthorized if u is anonymous, and another
// StatusError if a source could not tell.
func (z *Authorizer) Authorize(ctx context.Context, u *User, a *Attributes) error {
	allowed, err := z.allowed(ctx, u, a)
	if err == nil && allowed {
		if z.nodes == nil || u.Node() == "" || u.In(MastersGroup) {
			return nil
		}
		err = z.nodes.Check(ctx, u, a)
		if err == nil {
			return nil
		}
		return forbidden(u, a, err.Error())
	}
	switch {
	case err != nil:
		return apierrors.NewServiceUnavailable("the right to do this cannot be checked now: " + err.Error())
	case u == nil || u.Name == Anonymous:
		return unauthorized("Unauthorized: show a client certificate or a bearer token")
	}
	return forbidden(u, a, "")
}

func (z *Authorizer) allowed(ctx context.Context, u *User, a *Attributes) (bool, error) {
	if Allows(z.builtin, u, a) {
		return true, nil
	}
	for _, source := range z.sources {
		grants, err := source.Grants(ctx, a.Namespace)
		if err != nil {
			return false, err
		}
		if Allows(grants, u, a) {
			return true, nil
		}
	}
	return false, nil
}

// Rules returns all rules that u has in a namespace.
func (z *Authorizer) Rules(ctx context.Context, u *User, namespace string) ([]rbacv1.PolicyRule, error) {
	rules := rulesOf(z.builtin, u, namespace)
	for _, source := range z.sources {
		grants, err := source.Grants(ctx, namespace)
		if err != nil {
			return rules, err
		}
		rules = append(rules, rulesOf(grants, u, namespace)...)
	}
	return rules, nil
}

func rulesOf(grants []Grant, u *User, namespace string) (rules []rbacv1.PolicyRule) {
	for i := range grants {
		g := &grants[i]
		if (g.Namespace == "" || g.Namespace == namespace) && g.holds(u) {
			rules = append(rules, g.Rules...)
		}
	}
	return rules
}

// holds reports whether u is one of the subjects.
func (g *Grant) holds(u *User) bool {
	return u != nil && slices.ContainsFunc(g.Subjects, func(s rbacv1.Subject) bool { return isSubject(s, g.Namespace, u) })
}

// Allows reports whether one of the grants lets u do a.
func Allows(grants []Grant, u *User, a *Attributes) bool {
	if u == nil {
		return false
	}
	for i := range grants {
		if g := &grants[i]; g.holds(u) && g.covers(a) {
			return true
		}
	}
	return false
}

// Holder is somebody who may do something, and by what.
type Holder struct {
	Subject rbacv1.Subject // its namespace, if it has one, is always there
	Binding string
}

// WhoCan returns everybody who is granted a, sorted by kind, namespace, name and binding. Nodes are held to what is theirs besides.
func (z *Authorizer) WhoCan(ctx context.Context, a *Attributes) ([]Holder, error) {
	all := slices.Clone(z.builtin)
	for _, source := range z.sources {
		grants, err := source.Grants(ctx, a.Namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, grants...)
	}
	var out []Holder
	for i := range all {
		g := &all[i]
		if !g.covers(a) {
			continue
		}
		for _, s := range g.Subjects {
			if s.Kind == rbacv1.ServiceAccountKind && s.Namespace == "" {
				s.Namespace = g.Namespace
			}
			out = append(out, Holder{s, g.Binding})
		}
	}
	slices.SortFunc(out, func(a, b Holder) int {
		return cmp.Or(strings.Compare(a.Subject.Kind, b.Subject.Kind), strings.Compare(a.Subject.Namespace, b.Subject.Namespace),
			strings.Compare(a.Subject.Name, b.Subject.Name), strings.Compare(a.Binding, b.Binding))
	})
	return slices.Compact(out), nil
}

// covers reports whether a is among what the grant is about.
func (g *Grant) covers(a *Attributes) bool {
	if g.Namespace != "" && (!a.IsResource || g.Namespace != a.Namespace) {
		return false
	}
	return slices.ContainsFunc(g.Rules, func(r rbacv1.PolicyRule) bool { return matches(&r, a) })
}

func isSubject(s rbacv1.Subject, namespace string, u *User) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return s.Name == u.Name
	case rbacv1.GroupKind:
		return u.In(s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return namespace != "" && u.Name == AccountPrefix+namespace+":"+s.Name
	}
	return false
}

func matches(r *rbacv1.PolicyRule, a *Attributes) bool {
	if !has(r.Verbs, a.Verb) {
		return false
	}
	if !a.IsResource {
		return slices.ContainsFunc(r.NonResourceURLs, func(p string) bool { return matchesPath(p, a.Path) })
	}
	return has(r.APIGroups, a.Group) && matchesResource(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

// matchesResource knows "pods", "pods/log", "*" and "*/scale". "pods" does not include its subresources.
func matchesResource(list []string, resource, sub string) bool {
	full := resource
	if sub != "" {
		full += "/" + sub
	}
	return slices.ContainsFunc(list, func(s string) bool {
		return s == "*" || s == full || sub != "" && s == "*/"+sub
	})
}

func matchesPath(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

func has(list []string, s string) bool { return slices.Contains(list, s) || slices.Contains(list, "*") }

// forbidden says what was tried, as kubectl's users know it.
func forbidden(u *User, a *Attributes, why string) error {
	if !a.IsResource {
		return forbiddenf("user %q cannot %s path %q", u.Name, a.Verb, a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	message := fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", u.Name, a.Verb, resource, a.Group, where)
	if why != "" {
		message += ": " + why
	}
	err := apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, fmt.Errorf("%s", message))
	err.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return err
}

// forbiddenf is a refusal that is not about one resource.
func forbiddenf(format string, args ...any) error {
	err := apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf(format, args...))
	err.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	err.ErrStatus.Message = "forbidden: " + fmt.Sprintf(format, args...)
	return err
}
