package peer

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"shoal/internal/api"
	"shoal/master/auth"
)

// answers tells expressions of admission who may do what.
type answers struct{ authority *authority }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (a answers) Authorize(ctx context.Context, at authorizer.Attributes) (authorizer.Decision, string, error) {
	who := at.GetUser()
	u := &auth.User{Name: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: who.GetExtra()}
	err := a.authority.authz.Authorize(ctx, u, &auth.Attributes{
		Verb: at.GetVerb(), Group: at.GetAPIGroup(), Version: at.GetAPIVersion(), Resource: at.GetResource(), Subresource: at.GetSubresource(),
		Namespace: at.GetNamespace(), Name: at.GetName(), Path: at.GetPath(), IsResource: at.IsResourceRequest(),
	})
	if err != nil {
		return authorizer.DecisionNoOpinion, err.Error(), nil
	}
	return authorizer.DecisionAllow, "", nil
}

// kind finds a kind, custom ones included.
func (p *Peer) kind(gvk schema.GroupVersionKind) (*api.Kind, bool) {
	return p.registry.Kinds().ByKind(gvk)
}
