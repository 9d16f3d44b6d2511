package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// references holds the ConfigMaps, Secrets, claims and volumes that this machine's pods use: each is followed by a watch of its own, for
// as long as a pod uses it, because a node may read no others.
type references struct {
	n         *Node
	following *followers

	mu   sync.Mutex
	refs map[refKey]*reference
	held map[types.UID][]refKey
}

type refKey struct {
	kind *api.Kind
	key  client.Key
}

type reference struct {
	cache interface {
		client.Syncer
		Run(ctx context.Context) error
	}
	get    func() (api.Object, bool)
	users  map[types.UID]bool
	unused chan struct{} // closed when nobody uses it any more
}

func newReferences(n *Node) *references {
	return &references{n: n, following: newFollowers(), refs: map[refKey]*reference{}, held: map[types.UID][]refKey{}}
}

// Run follows what is held until ctx ends.
func (r *references) Run(ctx context.Context) error { return r.following.Run(ctx) }

// hold follows everything p refers to.
func (r *references) hold(p *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.held[p.UID]; ok {
		return
	}
	r.holdLocked(p, referred(p))
}

// holdLocked follows keys for p, besides what it holds. Caller holds mu.
func (r *references) holdLocked(p *corev1.Pod, keys []refKey) {
	r.held[p.UID] = append(r.held[p.UID], keys...)
	for _, k := range keys {
		ref := r.refs[k]
		if ref == nil {
			ref = r.followLocked(k, p.ResourceVersion)
		}
		ref.users[p.UID] = true
	}
}

// holdVolumes follows the volumes of p's claims, as far as these are known and have some.
func (r *references) holdVolumes(p *corev1.Pod) {
	var keys []refKey
	for _, name := range api.ClaimsOf(p) {
		if c, err := r.Claim(p.Namespace, name); err == nil && c.Spec.VolumeName != "" {
			keys = append(keys, refKey{api.PersistentVolumes, client.Key{Name: c.Spec.VolumeName}})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holdLocked(p, slices.DeleteFunc(keys, func(k refKey) bool { return slices.Contains(r.held[p.UID], k) }))
}

// answerWait is how long the API has to say what a pod refers to, before what is known from an earlier run must do.
const answerWait = 5 * time.Second

// await waits until everything that p refers to is known, or is known not to be there.
func (r *references) await(ctx context.Context, p *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	return client.WaitSynced(ctx, r.syncers(p)...)
}

// known reports whether await would return at once.
func (r *references) known(p *corev1.Pod) bool {
	for _, s := range r.syncers(p) {
		select {
		case <-s.Synced():
		default:
			return false
		}
	}
	return true
}

func (r *references) syncers(p *corev1.Pod) []client.Syncer {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []client.Syncer{r.n.service} // every environment names Services
	for _, k := range r.held[p.UID] {
		out = append(out, r.refs[k].cache)
	}
	return out
}

// followLocked begins to follow k, at a state no older than the pod that refers to it. Caller holds mu.
func (r *references) followLocked(k refKey, rev string) *reference {
	if rev == "" {
		rev = "0"
	}
	o := client.ListOptions{
		Namespace: k.key.Namespace, Fields: fields.OneTermEqualSelector("metadata.name", k.key.Name), ResourceVersion: rev,
	}
	ref := &reference{users: map[types.UID]bool{}, unused: make(chan struct{})}
	changed := func() { r.changed(ref) }
	switch config := r.n.cacheOf(k.kind, o); k.kind {
	case api.Secrets:
		followOne[*corev1.Secret](ref, config, k.key, changed)
	case api.PersistentVolumeClaims:
		followOne[*corev1.PersistentVolumeClaim](ref, config, k.key, changed)
	case api.PersistentVolumes:
		followOne[*corev1.PersistentVolume](ref, config, k.key, changed)
	default:
		followOne[*corev1.ConfigMap](ref, config, k.key, changed)
	}
	r.refs[k] = ref
	r.following.add(ref.cache.Run, ref.unused)
	return ref
}

func followOne[T api.Object](ref *reference, config client.CacheConfig, key client.Key, changed func()) {
	c := client.NewCache[T](config)
	c.OnChange(func(_, _ T) { changed() })
	ref.cache, ref.get = c, func() (api.Object, bool) { return c.Get(key) }
}

// changed lets the pods that use ref look at it again.
func (r *references) changed(ref *reference) {
	select {
	case <-ref.cache.Synced():
	default:
		return // the first list: those who hold it wait for it anyway
	}
	r.mu.Lock()
	users := make([]types.UID, 0, len(ref.users))
	for uid := range ref.users {
		users = append(users, uid)
	}
	r.mu.Unlock()
	r.n.pods.refresh(users)
}

// release stops following what only uid used.
func (r *references) release(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.held[uid] {
		ref := r.refs[k]
		if ref == nil {
			continue
		}
		if delete(ref.users, uid); len(ref.users) == 0 {
			close(ref.unused)
			delete(r.refs, k)
		}
	}
	delete(r.held, uid)
}

func (r *references) object(k *api.Kind, namespace, name string) (api.Object, error) {
	key := refKey{k, client.Key{Namespace: namespace, Name: name}}
	r.mu.Lock()
	ref := r.refs[key]
	r.mu.Unlock()
	if ref != nil {
		if o, ok := ref.get(); ok {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%w", apierrors.NewNotFound(k.GVR().GroupResource(), name))
}

// What a held pod refers to. They implement volume.Objects.

// ConfigMap returns a ConfigMap.
func (r *references) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return as[*corev1.ConfigMap](r.object(api.ConfigMaps, namespace, name))
}

// Secret returns a Secret.
func (r *references) Secret(namespace, name string) (*corev1.Secret, error) {
	return as[*corev1.Secret](r.object(api.Secrets, namespace, name))
}

// Claim returns a claim.
func (r *references) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return as[*corev1.PersistentVolumeClaim](r.object(api.PersistentVolumeClaims, namespace, name))
}

// Volume returns the volume of a claim.
func (r *references) Volume(name string) (*corev1.PersistentVolume, error) {
	return as[*corev1.PersistentVolume](r.object(api.PersistentVolumes, "", name))
}

func as[T api.Object](o api.Object, err error) (T, error) {
	out, _ := o.(T)
	return out, err
}

// referred returns what a pod's volumes and environments are made of, and what its images are pulled with, each once.
func referred(p *corev1.Pod) []refKey {
	var out []refKey
	seen := map[refKey]bool{}
	add := func(k *api.Kind, name string) {
		key := refKey{k, client.Key{Namespace: p.Namespace, Name: name}}
		if name != "" && !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	for _, name := range api.ClaimsOf(p) {
		add(api.PersistentVolumeClaims, name)
	}
	for _, s := range p.Spec.ImagePullSecrets {
		add(api.Secrets, s.Name)
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.ConfigMap != nil:
			add(api.ConfigMaps, v.ConfigMap.Name)
		case v.Secret != nil:
			add(api.Secrets, v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					add(api.ConfigMaps, s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add(api.Secrets, s.Secret.Name)
				}
			}
		}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers, api.EphemeralContainers(p)} {
		for i := range list {
			for _, f := range list[i].EnvFrom {
				if f.ConfigMapRef != nil {
					add(api.ConfigMaps, f.ConfigMapRef.Name)
				}
				if f.SecretRef != nil {
					add(api.Secrets, f.SecretRef.Name)
				}
			}
			for _, e := range list[i].Env {
				if e.ValueFrom == nil {
					continue
				}
				if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
					add(api.ConfigMaps, ref.Name)
				}
				if ref := e.ValueFrom.SecretKeyRef; ref != nil {
					add(api.Secrets, ref.Name)
				}
			}
		}
	}
	return out
}
