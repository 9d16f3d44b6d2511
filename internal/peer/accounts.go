package peer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/pki"
	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// accounts issues tokens of service accounts where the CA's key is, and checks them everywhere.
type accounts struct {
	p     *Peer
	rules auth.Accounts
}

func newAccounts(p *Peer) *accounts {
	issuer := "https://kubernetes.default.svc." + p.cfg.Network.Domain
	a := &accounts{p: p}
	a.rules = auth.Accounts{
		Issuer: issuer, Audiences: []string{issuer, "shoal"}, Now: p.now, UID: a.uid,
		Open: func(token string) ([]byte, error) { return pki.OpenToken(p.id.CAs(), token) },
	}
	return a
}

// uid implements auth.Accounts' UID from this peer's replica, or from the Master when the replica does not have the object yet: a token
// may be shown a moment after its account was made.
func (a *accounts) uid(ctx context.Context, resource, namespace, name string) (string, error) {
	k := map[string]*api.Kind{"serviceaccounts": api.ServiceAccounts, "pods": api.Pods, "secrets": api.Secrets, "nodes": api.Nodes}[resource]
	key := client.Key{Namespace: namespace, Name: name}
	o, err := a.p.registry.Get(ctx, k, key, anyRevision)
	if apierrors.IsNotFound(err) {
		o, err = a.p.registry.Get(ctx, k, key, client.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", err
	case o.GetDeletionTimestamp() != nil && k != api.Pods: // a pod that ends may use its token to the end
		return "", nil
	}
	return string(o.GetUID()), nil
}

// Issue implements the API's Accounts.
func (a *accounts) Issue(ctx context.Context, t masterapi.AccountToken) (string, error) {
	about := auth.About{Namespace: t.Account.Namespace, Account: auth.Object{Name: t.Account.Name, UID: string(t.Account.UID)}}
	if o := t.Bound; o != nil {
		bound := &auth.Object{Name: o.GetName(), UID: string(o.GetUID())}
		switch o.(type) {
		case *corev1.Pod:
			about.Pod = bound
		case *corev1.Secret:
			about.Secret = bound
		case *corev1.Node:
			about.Node = bound
		}
	}
	if t.Node != nil {
		about.Node = &auth.Object{Name: t.Node.Name, UID: string(t.Node.UID)}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	claims, err := json.Marshal(a.rules.NewClaims(about, t.Audiences, t.Life, hex.EncodeToString(id[:])))
	if err != nil {
		return "", err
	}
	a.p.waitCA(ctx)
	ca, err := openCA(a.p.raft, a.p.id)
	if err != nil {
		return "", failf(http.StatusServiceUnavailable, "%v", err)
	}
	return ca.SignToken(claims)
}

// Review implements the API's Accounts.
func (a *accounts) Review(ctx context.Context, token string, audiences []string) (*masterapi.User, []string, error) {
	u, of, err := a.rules.Review(ctx, token, audiences)
	if err != nil {
		if errors.Is(err, auth.ErrUnknownToken) {
			err = fmt.Errorf("invalid bearer token: %w", err)
		}
		return nil, nil, err
	}
	user := masterapi.User(*u)
	user.Groups = append(user.Groups, auth.AuthenticatedGroup)
	return &user, of, nil
}

// Issuer implements the API's Accounts.
func (a *accounts) Issuer() string { return a.rules.Issuer }

// Audiences implements the API's Accounts.
func (a *accounts) Audiences() []string { return a.rules.Audiences }

// Keys implements the API's Accounts.
func (a *accounts) Keys() ([]byte, error) { return pki.TokenKeys(a.p.id.CAs()) }

// grants are the bindings that people made, as this peer's replica has them.
type grants struct{ local client.Interface }

// Grants implements auth.Grants.
func (g grants) Grants(ctx context.Context, namespace string) ([]auth.Grant, error) {
	var all []auth.Grant
	if namespace != "" {
		list, err := g.local.List(ctx, api.RoleBindings, client.ListOptions{Namespace: namespace, ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			b := o.(*rbacv1.RoleBinding)
			rules, err := g.rules(ctx, namespace, b.RoleRef)
			if err != nil {
				return nil, err
			}
			all = append(all, auth.Grant{Subjects: b.Subjects, Namespace: namespace, Rules: rules, Binding: "rolebinding/" + b.Name})
		}
	}
	list, err := g.local.List(ctx, api.ClusterRoleBindings, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	for _, o := range list.Items {
		b := o.(*rbacv1.ClusterRoleBinding)
		rules, err := g.rules(ctx, "", b.RoleRef)
		if err != nil {
			return nil, err
		}
		all = append(all, auth.Grant{Subjects: b.Subjects, Rules: rules, Binding: "clusterrolebinding/" + b.Name})
	}
	return all, nil
}

// rules returns those of the role that a binding names; none if there is no such role.
func (g grants) rules(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	rules, err := g.role(ctx, namespace, ref)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return rules, err
}

func (g grants) role(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	if ref.Kind == "Role" {
		o, err := g.local.Get(ctx, api.Roles, client.Key{Namespace: namespace, Name: ref.Name}, anyRevision)
		if err != nil {
			return nil, err
		}
		return o.(*rbacv1.Role).Rules, nil
	}
	o, err := g.local.Get(ctx, api.ClusterRoles, client.Key{Name: ref.Name}, anyRevision)
	if err != nil {
		return nil, err
	}
	return o.(*rbacv1.ClusterRole).Rules, nil
}
