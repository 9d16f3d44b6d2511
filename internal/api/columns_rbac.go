package api

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// createdColumns are those of kinds that Kubernetes shows without a printer of their own: the time itself, not the age.
func createdColumns() []metav1.TableColumnDefinition {
	created := metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: ageColumn().Description}
	return []metav1.TableColumnDefinition{nameColumn(), created}
}

func createdCells(o Object) []any {
	return []any{o.GetName(), o.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

func roleCells(r *rbacv1.Role, _ time.Time) []any { return createdCells(r) }

func clusterRoleCells(r *rbacv1.ClusterRole, _ time.Time) []any { return createdCells(r) }

func bindingColumns(kind, role string) []metav1.TableColumnDefinition {
	return append([]metav1.TableColumnDefinition{nameColumn(), column("Role", role), ageColumn()}, wide(
		column("Users", "Users in the "+kind),
		column("Groups", "Groups in the "+kind),
		column("ServiceAccounts", "ServiceAccounts in the "+kind),
	)...)
}

func roleBindingCells(b *rbacv1.RoleBinding, now time.Time) []any {
	return bindingCells(b, &b.RoleRef, b.Subjects, now)
}

func clusterRoleBindingCells(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
	return bindingCells(b, &b.RoleRef, b.Subjects, now)
}

func bindingCells(o Object, role *rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{
		o.GetName(), role.Kind + "/" + role.Name, since(o.GetCreationTimestamp(), now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}
