package peer

import (
	"context"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"shoal/internal/pki"
	"shoal/master/admission"
	masterapi "shoal/master/api"
	"shoal/master/registry"
)

// authority decides who sent a request and what it may do.
type authority struct{ p *Peer }

func newAuthority(p *Peer) *authority { return &authority{p} }

// Authenticate implements the API's Auth.
func (a *authority) Authenticate(r *http.Request) (*masterapi.User, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	if proto := r.TLS.NegotiatedProtocol; (proto == protoPeer || proto == protoStream) && r.Header.Get(userHeader) != "" {
		return &masterapi.User{Name: r.Header.Get(userHeader), Groups: r.Header[groupHeader]}, nil
	}
	subject := r.TLS.PeerCertificates[0].Subject
	return &masterapi.User{Name: subject.CommonName, Groups: append(slices.Clone(subject.Organization), "system:authenticated")}, nil
}

// Authorize implements the API's Auth.
func (a *authority) Authorize(_ context.Context, u *masterapi.User, at *masterapi.Attributes) error {
	if slices.Contains(u.Groups, pki.MastersGroup) || slices.Contains(u.Groups, pki.NodesGroup) || !at.IsResource {
		return nil
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: at.Group, Resource: at.Resource}, at.Name, nil)
}

// Admit implements admission.Plugin: it keeps nodes to their own objects.
func (a *authority) Admit(context.Context, *admission.Request) error { return nil }

// admissionRequest puts a write of the registry into admission's words.
func admissionRequest(ctx context.Context, a *registry.Admission) *admission.Request {
	r := &admission.Request{
		Operation: admission.Operation(a.Operation), Kind: a.Kind, Subresource: a.Subresource, Key: a.Key,
		Object: a.Object, OldObject: a.Old, DryRun: a.DryRun,
	}
	if u := masterapi.UserFrom(ctx); u != nil {
		r.User = &admission.User{Name: u.Name, Groups: u.Groups}
	}
	return r
}
