package peer

import (
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"shoal/internal/client"
	masterapi "shoal/master/api"
)

// serveHistory answers with an object's past, to whoever may read the object. The object is named by the query: group, version, resource,
// namespace, name.
func (p *Peer) serveHistory(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	gvr := schema.GroupVersionResource{Group: q.Get("group"), Version: q.Get("version"), Resource: q.Get("resource")}
	k, ok := p.registry.Kinds().ByResource(gvr)
	if !ok {
		fail(w, failf(http.StatusNotFound, "no kind is served as %s", gvr))
		return
	}
	key := client.Key{Namespace: q.Get("namespace"), Name: q.Get("name")}
	if key.Name == "" || k.Namespaced != (key.Namespace != "") {
		fail(w, failf(http.StatusBadRequest, "query: an object of %s needs a name, and a namespace exactly when the kind has them", k.Resource))
		return
	}
	if p.locked(k.Group, k.Resource) {
		p.onHolder(p.serveHistory, w, r)
		return
	}
	err := p.authority.Authorize(r.Context(), masterapi.UserFrom(r.Context()), &masterapi.Attributes{
		Verb: "get", Group: k.Group, Version: k.Version, Resource: k.Resource, Namespace: key.Namespace, Name: key.Name, IsResource: true,
	})
	if err == nil {
		if stale := p.upToDate(r.Context()); stale != nil {
			w.Header().Set("Warning", `299 - "no quorum: this is what `+p.cfg.Name+` knows"`)
		}
		h, herr := p.registry.History(r.Context(), k, key)
		if err = herr; err == nil {
			answer(w, h, nil)
			return
		}
	}
	fail(w, err)
}
