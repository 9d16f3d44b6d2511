package api

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rows of rbac.authorization.k8s.io. Nothing reads these objects yet: the authorizer knows the built-in grants only,
// so that writing them gives no one a right, and writing a role needs no check that the writer has what it grants. The
// authorizer that reads them must bring that check (the verbs escalate and bind) with it.
var (
	Roles               = row[rbacv1.Role, rbacv1.RoleList](rbacv1.SchemeGroupVersion, "Role", "roles").with(roleRow)
	RoleBindings        = row[rbacv1.RoleBinding, rbacv1.RoleBindingList](rbacv1.SchemeGroupVersion, "RoleBinding", "rolebindings").with(roleBindingRow)
	ClusterRoles        = row[rbacv1.ClusterRole, rbacv1.ClusterRoleList](rbacv1.SchemeGroupVersion, "ClusterRole", "clusterroles").with(clusterRoleRow)
	ClusterRoleBindings = row[rbacv1.ClusterRoleBinding, rbacv1.ClusterRoleBindingList](rbacv1.SchemeGroupVersion, "ClusterRoleBinding", "clusterrolebindings").with(clusterRoleBindingRow)
)

// anySegment is pathSegment for names that are checked as a whole even when they are the beginning of one.
func anySegment(name string, _ bool) []string { return pathSegment(name, false) }

func roleRow(k *Kind) {
	k.ValidateName = anySegment
	k.CreateOnUpdate = true
	k.Validate = check(validateRole)
	k.ValidateUpdate = compare(func(updated, _ *rbacv1.Role) field.ErrorList { return validateRole(updated) })
	k.Columns, k.Cells = createdColumns(), cells(roleCells)
}

func clusterRoleRow(k *Kind) {
	k.Namespaced = false
	k.ValidateName = anySegment
	k.CreateOnUpdate = true
	k.Validate = check(validateClusterRole)
	k.ValidateUpdate = compare(func(updated, _ *rbacv1.ClusterRole) field.ErrorList { return validateClusterRole(updated) })
	k.Columns, k.Cells = createdColumns(), cells(clusterRoleCells)
}

func roleBindingRow(k *Kind) {
	k.ValidateName = anySegment
	k.CreateOnUpdate = true
	k.Default = on(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) })
	k.Validate, k.ValidateUpdate = check(validateRoleBinding), compare(validateRoleBindingUpdate)
	k.Columns, k.Cells = bindingColumns("roleBinding", rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"]), cells(roleBindingCells)
}

func clusterRoleBindingRow(k *Kind) {
	k.Namespaced = false
	k.ValidateName = anySegment
	k.CreateOnUpdate = true
	k.Default = on(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) })
	k.Validate, k.ValidateUpdate = check(validateClusterRoleBinding), compare(validateClusterRoleBindingUpdate)
	k.Columns, k.Cells = bindingColumns("clusterRoleBinding", rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"]), cells(clusterRoleBindingCells)
}

// defaultBinding names the group of everything that is not a service account.
func defaultBinding(role *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	blank(&role.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if s := &subjects[i]; s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind {
			blank(&s.APIGroup, rbacv1.GroupName)
		}
	}
}
