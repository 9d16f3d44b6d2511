package peer

import (
	"net/http"

	"shoal/internal/api"
	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// serveWhoCan lists who may do what the query says (verb, and path or group, resource, subresource, namespace, name), to whoever may ask that about
// others.
func (p *Peer) serveWhoCan(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a := auth.Attributes{
		Verb: q.Get("verb"), Path: q.Get("path"), Group: q.Get("group"), Resource: q.Get("resource"), Subresource: q.Get("subresource"),
		Namespace: q.Get("namespace"), Name: q.Get("name"), IsResource: q.Get("path") == "",
	}
	if a.Verb == "" || a.IsResource && a.Resource == "" {
		fail(w, failf(http.StatusBadRequest, "query: name a verb, and a resource or a path"))
		return
	}
	err := p.authority.Authorize(r.Context(), masterapi.UserFrom(r.Context()), &masterapi.Attributes{
		Verb: "create", Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews", IsResource: true,
	})
	if err != nil {
		fail(w, err)
		return
	}
	if stale := p.upToDate(r.Context()); stale != nil {
		w.Header().Set("Warning", `299 - "no quorum: this is what `+p.cfg.Name+` knows"`)
	}
	all, err := p.authority.authz.WhoCan(r.Context(), &a)
	out := make([]api.Holder, 0, len(all))
	for _, h := range all {
		out = append(out, api.Holder{Kind: h.Subject.Kind, Name: h.Subject.Name, Namespace: h.Subject.Namespace, Binding: h.Binding})
	}
	answer(w, out, err)
}
