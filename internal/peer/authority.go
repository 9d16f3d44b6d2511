package peer

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/admission"
	masterapi "shoal/master/api"
	"shoal/master/auth"
	"shoal/master/registry"
)

// authority answers, for every role that asks, who sent a request and what it may do. The rules are package auth's.
type authority struct {
	authn auth.Authenticator
	authz *auth.Authorizer
	local client.Interface // this peer's replica
}

func newAuthority(p *Peer, tokens ...auth.TokenSource) *authority {
	a := &authority{local: p.registry, authn: auth.Authenticator{Tokens: tokens, IsVoter: p.awaitVoter}}
	a.authz = auth.NewAuthorizer(&auth.NodeRestriction{PodNode: a.podNode, Refers: a.refers, Holds: a.holds}, grants{p.registry})
	return a
}

// anyRevision is whatever this peer's replica has: decisions must not wait for a quorum.
var anyRevision = client.GetOptions{ResourceVersion: "0"}

func (a *authority) podNode(ctx context.Context, namespace, name string) (string, bool, error) {
	o, err := a.local.Get(ctx, api.Pods, client.Key{Namespace: namespace, Name: name}, anyRevision)
	if apierrors.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return o.(*corev1.Pod).Spec.NodeName, true, nil
}

func (a *authority) holds(ctx context.Context, node, volume string) (bool, error) {
	o, err := a.local.Get(ctx, api.PersistentVolumes, client.Key{Name: volume}, anyRevision)
	if apierrors.IsNotFound(err) {
		return true, nil // the answer says so
	}
	if err != nil {
		return false, err
	}
	return api.LocalVolumeNode(o.(*corev1.PersistentVolume)) == node, nil
}

func (a *authority) refers(ctx context.Context, node, resource, namespace, name string) (bool, error) {
	if resource == api.PersistentVolumes.Resource { // by way of its claim
		o, err := a.local.Get(ctx, api.PersistentVolumes, client.Key{Name: name}, anyRevision)
		if err != nil {
			return false, err
		}
		claim := o.(*corev1.PersistentVolume).Spec.ClaimRef
		if claim == nil {
			return false, nil
		}
		resource, namespace, name = api.PersistentVolumeClaims.Resource, claim.Namespace, claim.Name
	}
	list, err := a.local.List(ctx, api.Pods, client.ListOptions{
		Namespace: namespace, ResourceVersion: "0", Fields: fields.OneTermEqualSelector("spec.nodeName", node),
	})
	if err != nil {
		return false, err
	}
	for _, o := range list.Items {
		for ref := range auth.References(o.(*corev1.Pod)) {
			if ref.Resource == resource && ref.Name == name {
				return true, nil
			}
		}
	}
	if resource == api.Secrets.Resource {
		return a.mountsWith(ctx, node, namespace, name)
	}
	return false, nil
}

// mountsWith reports whether a node needs a secret to mount the volume of a pod's claim.
func (a *authority) mountsWith(ctx context.Context, node, namespace, name string) (bool, error) {
	list, err := a.local.List(ctx, api.Pods, client.ListOptions{ResourceVersion: "0", Fields: fields.OneTermEqualSelector("spec.nodeName", node)})
	if err != nil {
		return false, err
	}
	for _, o := range list.Items {
		p := o.(*corev1.Pod)
		for _, claim := range api.ClaimsOf(p) {
			c, err := a.local.Get(ctx, api.PersistentVolumeClaims, client.Key{Namespace: p.Namespace, Name: claim}, anyRevision)
			if err != nil {
				continue
			}
			v, err := a.local.Get(ctx, api.PersistentVolumes, client.Key{Name: c.(*corev1.PersistentVolumeClaim).Spec.VolumeName}, anyRevision)
			if err != nil {
				continue
			}
			spec := &v.(*corev1.PersistentVolume).Spec
			if spec.CSI == nil || spec.ClaimRef == nil || spec.ClaimRef.UID != c.(*corev1.PersistentVolumeClaim).UID {
				continue
			}
			for _, ref := range []*corev1.SecretReference{spec.CSI.NodeStageSecretRef, spec.CSI.NodePublishSecretRef} {
				if ref != nil && ref.Namespace == namespace && ref.Name == name {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// Authenticate implements the API's Auth.
func (a *authority) Authenticate(r *http.Request) (*masterapi.User, error) {
	sender, err := a.authn.Authenticate(r)
	if err != nil {
		return nil, err
	}
	u, err := a.authz.Impersonate(r.Context(), sender, r.Header)
	if err != nil {
		u = sender
	}
	user := masterapi.User(*u)
	return &user, err
}

// Authorize implements the API's Auth.
func (a *authority) Authorize(ctx context.Context, u *masterapi.User, at *masterapi.Attributes) error {
	user, attributes := auth.User(*u), auth.Attributes(*at)
	return a.authz.Authorize(ctx, &user, &attributes)
}

// Rules implements the API's Auth.
func (a *authority) Rules(ctx context.Context, u *masterapi.User, namespace string) ([]rbacv1.PolicyRule, error) {
	user := auth.User(*u)
	return a.authz.Rules(ctx, &user, namespace)
}

// Admit implements admission.Plugin: it looks at what a node writes where the path does not say enough, at who
// gives rights to whom, and at certificates that are asked for.
func (a *authority) Admit(ctx context.Context, r *admission.Request) error {
	if r.User == nil || r.Object == nil {
		return nil
	}
	u := &auth.User{Name: r.User.Name, Groups: r.User.Groups}
	err := a.admitSigning(ctx, u, r)
	if err == nil {
		err = admitOwn(u, r)
	}
	if err == nil && r.Subresource == "" {
		err = a.admitObject(ctx, u, r)
	}
	if err != nil {
		return apierrors.NewForbidden(r.Kind.GVR().GroupResource(), r.Key.Name, err)
	}
	return nil
}

// admitOwn lets a node say of its Node, and of its pods, only what it knows better than others.
func admitOwn(u *auth.User, r *admission.Request) error {
	switch o := r.Object.(type) {
	case *corev1.Node:
		old, _ := r.OldObject.(*corev1.Node)
		return auth.CheckNodeChange(u, old, o)
	case *corev1.Pod:
		if old, ok := r.OldObject.(*corev1.Pod); ok && r.Subresource == "status" {
			return auth.CheckPodStatus(u, old, o)
		}
	}
	return nil
}

func (a *authority) admitObject(ctx context.Context, u *auth.User, r *admission.Request) error {
	if v, ok := r.Object.(*corev1.PersistentVolume); ok && r.Operation == admission.Update {
		return auth.CheckVolume(u, r.OldObject.(*corev1.PersistentVolume), v)
	}
	if r.Operation == admission.Create {
		switch o := r.Object.(type) {
		case *corev1.Node, *storagev1.CSINode:
			return auth.CheckNode(u, r.Object.GetName())
		case *corev1.Pod:
			return auth.CheckMirror(u, o)
		}
	}
	return a.admitGrant(ctx, u, r.Object)
}

// admitGrant lets nobody give rights that they do not have.
func (a *authority) admitGrant(ctx context.Context, u *auth.User, o api.Object) error {
	bind := func(namespace string, ref rbacv1.RoleRef) error {
		rules, err := grants{a.local}.role(ctx, namespace, ref)
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			return err
		}
		return a.authz.CheckBinding(ctx, u, namespace, ref, rules, missing)
	}
	switch o := o.(type) {
	case *rbacv1.Role:
		return a.authz.CheckRole(ctx, u, o.Namespace, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		return a.authz.CheckClusterRole(ctx, u, o)
	case *rbacv1.RoleBinding:
		return bind(o.Namespace, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return bind("", o.RoleRef)
	}
	return nil
}

// podAuthority decides about requests that reach the node's server: from this peer's API, which has decided already, or
// from another peer's, whose word is checked again.
type podAuthority struct{ *authority }

// Authorize implements the node server's Authorizer.
func (a podAuthority) Authorize(r *http.Request, namespace, name, sub string) error {
	u := masterapi.UserFrom(r.Context())
	if u == nil {
		var err error
		if u, err = a.Authenticate(r); err != nil {
			return err
		}
	}
	at := &masterapi.Attributes{Verb: "create", Version: "v1", Resource: "pods", Subresource: sub, Namespace: namespace, Name: name, IsResource: true}
	switch {
	case sub == "stats":
		*at = masterapi.Attributes{Verb: "get", Path: "/stats/summary"}
	case sub == "log", r.Method == http.MethodGet:
		at.Verb = "get"
	}
	return a.authority.Authorize(r.Context(), u, at)
}

// admissionRequest puts a write of the registry into admission's words.
func admissionRequest(ctx context.Context, a *registry.Admission) *admission.Request {
	r := &admission.Request{
		Operation: admission.Operation(a.Operation), Kind: a.Kind, Subresource: a.Subresource, Key: a.Key,
		Object: a.Object, OldObject: a.Old, DryRun: a.DryRun,
	}
	if u := masterapi.UserFrom(ctx); u != nil {
		r.User = &admission.User{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
	}
	r.Warn, r.Note = masterapi.WarnFrom(ctx), masterapi.NoteFrom(ctx)
	return r
}
