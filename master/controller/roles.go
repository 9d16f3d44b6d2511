package controller

import (
	"context"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"shoal/internal/api"
	"shoal/internal/client"
)

// roles gather into each ClusterRole with an aggregation rule what the roles have that its selectors select.
type roles struct {
	Config
	queue client.Queue
}

func newRoles(c Config) loop {
	r := &roles{Config: c, queue: client.NewQueue()}
	c.Caches.ClusterRoles.OnChange(func(old, o *rbacv1.ClusterRole) {
		if old != nil && o != nil && equality.Semantic.DeepEqual(old.Rules, o.Rules) && equality.Semantic.DeepEqual(old.Labels, o.Labels) &&
			equality.Semantic.DeepEqual(old.AggregationRule, o.AggregationRule) {
			return
		}
		for _, one := range c.Caches.ClusterRoles.List("", nil) { // it may be a part of any, before or now
			if one.AggregationRule != nil {
				r.queue.Add(client.KeyOf(one))
			}
		}
	})
	return newLoop("clusterrole-aggregation-controller", r.queue, 1, r.reconcile)
}

func (r *roles) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	role, ok := r.Caches.ClusterRoles.Get(key)
	if !ok || role.AggregationRule == nil || role.DeletionTimestamp != nil {
		return 0, nil
	}
	rules := r.gather(role)
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return 0, nil
	}
	role = role.DeepCopy()
	role.Rules = rules
	out, err := r.Client.Update(ctx, api.ClusterRoles, role, client.UpdateOptions{})
	var w written
	if err := noteWrite(out, err, &w, "gather "+role.Name); err != nil {
		return 0, err
	}
	return 0, w.shown(ctx, r.Caches.ClusterRoles)
}

// gather returns the rules of all roles that a role's selectors select, in the order of the selectors and their names, each once.
func (r *roles) gather(role *rbacv1.ClusterRole) (rules []rbacv1.PolicyRule) {
	for i := range role.AggregationRule.ClusterRoleSelectors {
		parts := r.Caches.ClusterRoles.List("", selectorOf(&role.AggregationRule.ClusterRoleSelectors[i]))
		slices.SortFunc(parts, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
		for _, part := range parts {
			if part.Name == role.Name {
				continue
			}
			for _, rule := range part.Rules {
				if !slices.ContainsFunc(rules, func(had rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(had, rule) }) {
					rules = append(rules, *rule.DeepCopy())
				}
			}
		}
	}
	return rules
}
