package auth

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const impersonationPrefix = "Impersonate-" // of the headers that say whom a request's sender wants to act as

// Impersonate returns whom the sender u acts as: whom the Impersonate- headers name, if u may act as that user, in those groups
// and with all else they say; u itself when there are none. Errors are StatusErrors.
func (z *Authorizer) Impersonate(ctx context.Context, u *User, h http.Header) (*User, error) {
	as, needs := impersonated(h)
	switch {
	case as == nil && len(needs) == 0:
		return u, nil
	case as == nil:
		return nil, apierrors.NewBadRequest("groups, uid or extra are impersonated without a user: set " + authenticationv1.ImpersonateUserHeader)
	}
	for i := range needs {
		if err := z.Authorize(ctx, u, &needs[i]); err != nil {
			return nil, err
		}
	}
	as.By = u.Name
	return as, nil
}

// impersonated reads whom a request wants to act as, nil when it names no user, and everything its sender must be allowed for that.
func impersonated(h http.Header) (as *User, needs []Attributes) {
	need := func(group, resource, sub, namespace, name string) {
		needs = append(needs, Attributes{
			Verb: "impersonate", Group: group, Version: "v1", Resource: resource, Subresource: sub, Namespace: namespace, Name: name, IsResource: true,
		})
	}
	u := &User{Name: h.Get(authenticationv1.ImpersonateUserHeader), UID: h.Get(authenticationv1.ImpersonateUIDHeader)}
	namespace, account, isAccount := accountOf(u.Name)
	switch {
	case isAccount:
		need("", "serviceaccounts", "", namespace, account)
	case u.Name != "":
		need("", "users", "", "", u.Name)
	}
	for _, g := range h.Values(authenticationv1.ImpersonateGroupHeader) {
		u.Groups = append(u.Groups, g)
		need("", "groups", "", "", g)
	}
	if u.UID != "" {
		need(authenticationv1.GroupName, "uids", "", "", u.UID)
	}
	for name, values := range h {
		key, ok := strings.CutPrefix(name, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		key = extraKey(key)
		for _, v := range values {
			if u.Extra == nil {
				u.Extra = map[string][]string{}
			}
			u.Extra[key] = append(u.Extra[key], v)
			need(authenticationv1.GroupName, "userextras", key, "", v)
		}
	}
	if u.Name == "" {
		return nil, needs
	}
	return inImpliedGroups(u, namespace, isAccount), needs
}

// inImpliedGroups adds the groups that nobody needs to ask for.
func inImpliedGroups(u *User, namespace string, isAccount bool) *User {
	if isAccount && len(u.Groups) == 0 {
		u.Groups = accountGroups(namespace)
	}
	if u.Name == Anonymous || u.In(UnauthenticatedGroup) {
		if !u.In(UnauthenticatedGroup) {
			u.Groups = append(u.Groups, UnauthenticatedGroup)
		}
		return u
	}
	return authenticated(u)
}

// extraKey decodes a header's end: header names know no case and not every character.
func extraKey(s string) string {
	s = strings.ToLower(s)
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// accountOf splits the user name of a service account.
func accountOf(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, AccountPrefix)
	namespace, name, cut := strings.Cut(rest, ":")
	return namespace, name, ok && cut && namespace != "" && name != "" && !strings.Contains(name, ":")
}

func accountGroups(namespace string) []string {
	return []string{AccountsGroup, AccountsGroup + ":" + namespace}
}

// dropImpersonation removes the wish to act as another user from the headers of a request.
func dropImpersonation(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(name, impersonationPrefix) })
}
