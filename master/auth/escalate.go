package auth

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// CheckRole returns why u may not write a role with these rules: nobody makes a role that can do more than they can, unless they may
// "escalate". An empty namespace means a ClusterRole.
func (z *Authorizer) CheckRole(ctx context.Context, u *User, namespace, name string, rules []rbacv1.PolicyRule) error {
	return z.checkGrant(ctx, u, "escalate", roleOf(namespace, name), rules, nil)
}

// CheckClusterRole is CheckRole for a ClusterRole. One that gathers what others have may come to have anything: that is for those who may do everything.
func (z *Authorizer) CheckClusterRole(ctx context.Context, u *User, r *rbacv1.ClusterRole) error {
	rules := r.Rules
	if r.AggregationRule != nil {
		rules = []rbacv1.PolicyRule{
			{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
		}
	}
	return z.CheckRole(ctx, u, "", r.Name, rules)
}

// CheckBinding returns why u may not bind a role that has these rules: nobody gives away more than they have, unless they may "bind" the
// role. A role that is missing may give anything once somebody makes it. Namespace is the binding's, empty for a ClusterRoleBinding.
func (z *Authorizer) CheckBinding(ctx context.Context, u *User, namespace string, ref rbacv1.RoleRef, rules []rbacv1.PolicyRule, missing bool) error {
	role := roleOf("", ref.Name)
	if ref.Kind == "Role" {
		role = roleOf(namespace, ref.Name)
	}
	role.Namespace = namespace // a ClusterRole may be bound in one namespace, by who may do it there
	var unknown error
	if missing {
		unknown = fmt.Errorf("there is no %s %q, so that nobody knows what it would give", ref.Kind, ref.Name)
	}
	return z.checkGrant(ctx, u, "bind", role, rules, unknown)
}

func roleOf(namespace, name string) Attributes {
	a := Attributes{Group: rbacv1.GroupName, Version: "v1", Resource: "clusterroles", Name: name, IsResource: true}
	if namespace != "" {
		a.Resource, a.Namespace = "roles", namespace
	}
	return a
}

// checkGrant returns unknown, unless it is nil, to those who may not do verb.
func (z *Authorizer) checkGrant(ctx context.Context, u *User, verb string, role Attributes, rules []rbacv1.PolicyRule, unknown error) error {
	if u.In(MastersGroup) {
		return nil
	}
	role.Verb = verb
	if z.Authorize(ctx, u, &role) == nil {
		return nil
	}
	if unknown != nil {
		return unknown
	}
	own, err := z.Rules(ctx, u, role.Namespace)
	if err != nil {
		return fmt.Errorf("what user %q may do cannot be told now: %w", u.Name, err)
	}
	if ok, missing := validation.Covers(own, rules); !ok {
		return fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held: %v", u.Name, u.Groups, compact(missing))
	}
	return nil
}

// compact shows rules briefly.
func compact(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rules {
		if len(r.NonResourceURLs) > 0 {
			all = append(all, fmt.Sprintf("%v %v", r.Verbs, r.NonResourceURLs))
			continue
		}
		all = append(all, fmt.Sprintf("%v %v in groups %q", r.Verbs, r.Resources, r.APIGroups))
	}
	return all
}
