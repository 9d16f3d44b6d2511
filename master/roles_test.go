package master_test

import (
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func (c *cluster) rulesOf(name string) []rbacv1.PolicyRule {
	c.Helper()
	return get[*rbacv1.ClusterRole](c, api.ClusterRoles, "", name).Rules
}

func (c *cluster) can(role, verb, resource string) bool {
	c.Helper()
	for _, r := range c.rulesOf(role) {
		for _, v := range r.Verbs {
			for _, one := range r.Resources {
				if v == verb && one == resource {
					return true
				}
			}
		}
	}
	return false
}

// TestRolesGather what others have whose labels say so: "Aggregated ClusterRoles" in Kubernetes' documentation.
func TestRolesGather(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		for _, want := range api.DefaultClusterRoles() {
			if !equality.Semantic.DeepEqual(c.rulesOf(want.Name), want.Rules) {
				t.Errorf("%s is not what it was made as: %v, want %v", want.Name, c.rulesOf(want.Name), want.Rules)
			}
		}
		rev := c.rev()
		c.pass(time.Minute)
		if c.rev() != rev {
			t.Error("a settled cluster writes")
		}
		boats := &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "see-boats", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"sea.example.com"}, Resources: []string{"boats"}}},
		}
		c.create(api.ClusterRoles, boats)
		c.settle()
		for _, role := range []string{"view", "edit", "admin"} {
			if !c.can(role, "get", "boats") {
				t.Errorf("%s does not see boats", role)
			}
		}
		c.stop()
		boats = get[*rbacv1.ClusterRole](c, api.ClusterRoles, "", "see-boats")
		boats.Labels = nil
		if _, err := c.Update(c.Context(), api.ClusterRoles, boats, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.lead(2)
		c.settle()
		for _, role := range []string{"view", "edit", "admin"} {
			if c.can(role, "get", "boats") {
				t.Errorf("%s sees boats still", role)
			}
		}
		for _, want := range api.DefaultClusterRoles() {
			if !equality.Semantic.DeepEqual(c.rulesOf(want.Name), want.Rules) {
				t.Errorf("then %s is not what it was made as", want.Name)
			}
		}
	})
}

// TestRolesOfAnEarlierReleaseGather, unless somebody has made them their own.
func TestRolesOfAnEarlierReleaseGather(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.stop()
		for name, own := range map[string]bool{"view": false, "edit": true} {
			r := get[*rbacv1.ClusterRole](c, api.ClusterRoles, "", name)
			r.AggregationRule, r.Labels = nil, nil
			if own {
				r.Annotations[rbacv1.AutoUpdateAnnotationKey] = "false"
			}
			if _, err := c.Update(c.Context(), api.ClusterRoles, r, client.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.lead(2)
		c.settle()
		if r := get[*rbacv1.ClusterRole](c, api.ClusterRoles, "", "view"); r.AggregationRule == nil || r.Labels["rbac.authorization.k8s.io/aggregate-to-edit"] != "true" {
			t.Errorf("view: %+v", r.ObjectMeta)
		}
		if get[*rbacv1.ClusterRole](c, api.ClusterRoles, "", "edit").AggregationRule != nil {
			t.Error("edit was somebody's own")
		}
	})
}
