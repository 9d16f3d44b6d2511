package testcluster

import (
	"context"
	"net/http"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	masterapi "shoal/master/api"
)

const (
	headerUser   = "X-Shoal-User"
	headerGroups = "X-Shoal-Groups"
	// headerTestUser is how clients say who they are; it stands for their certificate.
	headerTestUser = "X-Test-User"

	userAdmin   = "admin"
	groupAdmins = "system:masters"
	groupNodes  = "system:nodes"
	nodePrefix  = "system:node:"
)

// auth believes clients, and lets a peer assert a user only over a connection from another peer, as production does.
// Administrators may do everything, nodes everything with resources, others may read.
type auth struct{ self string }

// Authenticate implements the API's Auth.
func (a auth) Authenticate(r *http.Request) (*masterapi.User, error) {
	if name := r.Header.Get(headerUser); name != "" {
		if r.RemoteAddr == a.self {
			return nil, apierrors.NewUnauthorized("only peers may assert a user")
		}
		return &masterapi.User{Name: name, Groups: r.Header[headerGroups]}, nil
	}
	u := &masterapi.User{Name: r.Header.Get(headerTestUser), Groups: []string{"system:authenticated"}}
	switch {
	case u.Name == "":
		return nil, apierrors.NewUnauthorized("Unauthorized")
	case u.Name == userAdmin:
		u.Groups = append(u.Groups, groupAdmins)
	case u.Name == nodePrefix+a.self:
		u.Groups = append(u.Groups, groupNodes)
	}
	return u, nil
}

// Rules implements the API's Auth.
func (a auth) Rules(context.Context, *masterapi.User, string) ([]rbacv1.PolicyRule, error) {
	return nil, nil
}

// Authorize implements the API's Auth.
func (a auth) Authorize(_ context.Context, u *masterapi.User, at *masterapi.Attributes) error {
	reads := at.Verb == "get" || at.Verb == "list" || at.Verb == "watch"
	if reads || slices.Contains(u.Groups, groupAdmins) || at.IsResource && slices.Contains(u.Groups, groupNodes) {
		return nil
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: at.Group, Resource: at.Resource}, at.Name, nil)
}
