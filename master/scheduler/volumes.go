package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// Claims that wait for their first pod get their volumes where that pod does: the decision for a node is also one for volumes. It is written before the
// pod is bound: into the volume that a claim is given, or as the claim's selected node, where its provisioner makes one. Then the pod waits,
// with its share of the node, until the claims are bound.

// provisionWait is how long a provisioner has before the pod is decided upon anew; kube-scheduler's.
const provisionWait = 10 * time.Minute

// storage is what there is of claims and volumes, with the decisions that are not stored yet. It implements placement.Storage. The scheduler's mu guards it.
type storage struct {
	cfg      Config
	reserved map[client.Key]reservation // by claim
	given    map[string]client.Key      // by volume
	changed  *signal
}

// reservation is what a decision gave a claim: a volume that was there, or a node to make one for.
type reservation struct {
	by     *decision
	node   string
	volume string
}

func newStorage(c Config) storage {
	return storage{cfg: c, reserved: map[client.Key]reservation{}, given: map[string]client.Key{}, changed: &signal{make(chan struct{})}}
}

// signal wakes all who wait.
type signal struct{ c chan struct{} }

func (s *signal) wake() {
	close(s.c)
	s.c = make(chan struct{})
}

func (s storage) Claim(key client.Key) (*corev1.PersistentVolumeClaim, bool) {
	claim, ok := s.cfg.Claims.Get(key)
	r, reserved := s.reserved[key]
	if ok && reserved && r.volume == "" && !api.IsClaimBound(claim) {
		claim = withNode(claim, r.node)
	}
	return claim, ok
}

func (s storage) Volume(name string) (*corev1.PersistentVolume, bool) {
	return s.cfg.Volumes.Get(client.Key{Name: name})
}

func (s storage) Class(name string) (*storagev1.StorageClass, bool) {
	return s.cfg.Classes.Get(client.Key{Name: name})
}

func (s storage) Users(key client.Key) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(s.cfg.UsersOf(key)), func(p *corev1.Pod) bool { return p.Spec.NodeName == "" || api.IsPodTerminal(p) })
}

func (s storage) Free(claim *corev1.PersistentVolumeClaim) (free []*corev1.PersistentVolume) {
	class := volume.GetPersistentVolumeClaimClass(claim)
	if r, ok := s.reserved[client.KeyOf(claim)]; ok {
		if v, ok := s.Volume(r.volume); ok { // decided, for another pod: as if it were written there already
			v = v.DeepCopy()
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
			free = append(free, v)
		}
		return free
	}
	for _, v := range s.cfg.Volumes.List("", nil) {
		if _, given := s.given[v.Name]; given || volume.GetPersistentVolumeClass(v) != class {
			continue
		}
		if v.Spec.ClaimRef == nil || volume.IsVolumeBoundToClaim(v, claim) {
			free = append(free, v)
		}
	}
	return free
}

// reserve notes what a decision gave its pod's claims.
func (s storage) reserve(d *decision) {
	for _, c := range d.choices {
		key := client.KeyOf(c.Claim)
		if _, ok := s.reserved[key]; ok {
			continue // by another pod's decision, which this one had to follow
		}
		r := reservation{by: d, node: d.node}
		if c.Volume != nil {
			r.volume = c.Volume.Name
			s.given[r.volume] = key
		}
		s.reserved[key] = r
	}
}

// release takes back what a decision gave.
func (s storage) release(d *decision) {
	for _, c := range d.choices {
		if key := client.KeyOf(c.Claim); s.reserved[key].by == d {
			s.forget(key)
		}
	}
}

func (s storage) forget(key client.Key) {
	delete(s.given, s.reserved[key].volume)
	delete(s.reserved, key)
}

func withNode(claim *corev1.PersistentVolumeClaim, node string) *corev1.PersistentVolumeClaim {
	claim = claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnSelectedNode, node)
	return claim
}

func (s *Scheduler) claimChanged(old, claim *corev1.PersistentVolumeClaim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.KeyOf(cmp.Or(claim, old))
	if _, ok := s.storage.reserved[key]; ok && (claim == nil || api.IsClaimBound(claim)) {
		s.storage.forget(key)
	}
	s.storage.changed.wake()
	s.wakeUp(s.queue.claimed, func(p *placement.Pod) bool {
		return p.Namespace == key.Namespace && slices.Contains(p.Claims, key.Name)
	})
}

func (s *Scheduler) volumeChanged(_, _ *corev1.PersistentVolume) { s.storageChanged() }

func (s *Scheduler) storageChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue.claimed) > 0 {
		s.wakeUp(s.queue.claimed, func(*placement.Pod) bool { return true })
	}
}

// bindVolumes writes what was chosen for the pod's claims, and returns when all of these are bound.
func (s *Scheduler) bindVolumes(ctx context.Context, d *decision) error {
	if len(d.choices) == 0 {
		return nil
	}
	if err := s.writeChoices(ctx, d); err != nil {
		return err
	}
	over := time.NewTimer(provisionWait)
	defer over.Stop()
	for {
		changed, bound, err := s.volumesBound(d)
		if bound || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-over.C:
			return fmt.Errorf("no volume was made for the claims of pod %s within %v", d.pod.Name, provisionWait)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errNotWanted says that a pod has gone, or has been decided upon anew, while it waited.
var errNotWanted = errors.New("the pod is not wanted any more")

// volumesBound reports whether the claims that were open are bound, and what to wait for when they are not.
func (s *Scheduler) volumesBound(d *decision) (changed <-chan struct{}, bound bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.items[d.pod.UID] != d.item {
		return nil, false, errNotWanted
	}
	bound = true
	for _, c := range d.choices {
		claim, ok := s.cfg.Claims.Get(client.KeyOf(c.Claim))
		switch {
		case !ok || claim.UID != c.Claim.UID || claim.DeletionTimestamp != nil:
			return nil, false, fmt.Errorf("claim %s has gone", c.Claim.Name)
		case api.IsClaimBound(claim):
		case c.Volume == nil && claim.Annotations[volume.AnnSelectedNode] != d.node:
			return nil, false, fmt.Errorf("no volume can be made for claim %s on node %s", c.Claim.Name, d.node) // its provisioner says so
		default:
			bound = false
		}
	}
	return s.storage.changed.c, bound, nil
}

func (s *Scheduler) writeChoices(ctx context.Context, d *decision) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	for _, c := range d.choices {
		if err := s.writeChoice(ctx, d, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scheduler) writeChoice(ctx context.Context, d *decision, c placement.Choice) error {
	if c.Volume == nil {
		return s.selectNode(ctx, c.Claim, d.node)
	}
	v, dirty, err := volume.GetBindVolumeToClaim(c.Volume, c.Claim)
	if err == nil && dirty {
		_, err = s.cfg.Client.Update(ctx, api.PersistentVolumes, v, client.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("give volume %s to claim %s: %w", c.Volume.Name, c.Claim.Name, err)
	}
	return nil
}

// selectNode has the volume of a claim made where node reaches it.
func (s *Scheduler) selectNode(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) error {
	if is, ok := s.cfg.Claims.Get(client.KeyOf(claim)); ok && is.UID == claim.UID {
		claim = is
	}
	if claim.Annotations[volume.AnnSelectedNode] == node {
		return nil
	}
	out, err := s.cfg.Client.Update(ctx, api.PersistentVolumeClaims, withNode(claim, node), client.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("select a node for claim %s: %w", claim.Name, err)
	}
	return s.cfg.Claims.WaitFor(ctx, out.(*corev1.PersistentVolumeClaim).ResourceVersion)
}
