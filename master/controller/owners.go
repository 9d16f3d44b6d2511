package controller

import (
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// owner is the cache of a kind that owns others.
type owner struct {
	kind *api.Kind
	get  func(client.Key) (api.Object, bool)
	// onGone tells of each object that is gone, or waits for its dependents to go.
	onGone func(tell func(types.UID))
}

// owners are the kinds whose dependents the garbage collector follows.
func (c *Caches) owners() []owner {
	return []owner{
		ownerIn(api.Pods, c.Pods), ownerIn(api.ReplicationControllers, c.RCs), ownerIn(api.ReplicaSets, c.ReplicaSets),
		ownerIn(api.Deployments, c.Deployments), ownerIn(api.DaemonSets, c.DaemonSets), ownerIn(api.StatefulSets, c.StatefulSets),
		ownerIn(api.Jobs, c.Jobs), ownerIn(api.CronJobs, c.CronJobs), ownerIn(api.Services, c.Services), ownerIn(api.Nodes, c.Nodes),
	}
}

func ownerIn[T api.Object](k *api.Kind, cache *client.Cache[T]) owner {
	return owner{
		kind: k,
		get:  func(key client.Key) (api.Object, bool) { return cache.Get(key) },
		onGone: func(tell func(types.UID)) {
			var none T
			cache.OnChange(func(old, o T) {
				if any(o) == any(none) {
					tell(old.GetUID())
				} else if foreground(o) {
					tell(o.GetUID())
				}
			})
		},
	}
}
