package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Storage is what there is of claims, volumes and classes, with what is decided and not yet stored. What it returns must not be changed.
type Storage interface {
	Claim(client.Key) (*corev1.PersistentVolumeClaim, bool)
	Volume(name string) (*corev1.PersistentVolume, bool)
	Class(name string) (*storagev1.StorageClass, bool)
	// Free returns the volumes that a claim without one may be given.
	Free(*corev1.PersistentVolumeClaim) []*corev1.PersistentVolume
	// Users returns the pods that have a node, have not ended, and use a claim.
	Users(client.Key) []*corev1.Pod
}

// Volumes are what a pod's claims mean for where it can run, at one moment.
type Volumes struct {
	problem string // of all nodes
	bound   []bound
	open    []open // the largest last, so that small claims do not take what only large ones need
}

// bound is a claim's volume, and where it can be reached.
type bound struct {
	terms []nodeTerm // of which one must match; nil: all do
	zones []zoneLabel
}

// zoneLabel is a label of a volume that a node must share, if it has any of that kind.
type zoneLabel struct {
	key    string
	values []string
}

// open is a claim that has no volume yet, and gets one where its pod does.
type open struct {
	claim *corev1.PersistentVolumeClaim
	class *storagev1.StorageClass
	free  []*corev1.PersistentVolume
}

// Choice is what an open claim gets on a node: a volume that is there, or, when that is nil, one that is made.
type Choice struct {
	Claim  *corev1.PersistentVolumeClaim
	Volume *corev1.PersistentVolume
}

// The words of kube-scheduler.
var (
	unreachable = []string{"node(s) didn't match PersistentVolume's node affinity"}
	noVolume    = []string{"node(s) didn't find available persistent volumes to bind"}
	otherZone   = []string{"node(s) had no available volume zone"}
)

// NewVolumes works out p's claims. It returns nil when p has none.
func NewVolumes(p *corev1.Pod, s Storage) *Volumes {
	names := api.ClaimsOf(p)
	if len(names) == 0 {
		return nil
	}
	v := &Volumes{}
	immediate := false
	for _, name := range names {
		claim, problem := claimOf(p, name, s)
		if problem != "" {
			v.problem = problem
			return v
		}
		if api.IsClaimBound(claim) {
			is, ok := s.Volume(claim.Spec.VolumeName)
			if !ok {
				v.problem = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
				return v
			}
			v.bound = append(v.bound, reach(is))
			continue
		}
		class, ok := s.Class(volume.GetPersistentVolumeClaimClass(claim))
		if !ok || !api.WaitsForConsumer(class) || claim.Spec.VolumeName != "" {
			immediate = true // or on its way, or of a volume that somebody named: its controller binds it
			continue
		}
		if class.Provisioner == api.LocalProvisioner {
			if err := api.CheckLocalClaim(claim, class); err != nil {
				v.problem = fmt.Sprintf("persistentvolumeclaim %q: %v", name, err)
				return v
			}
		}
		v.open = append(v.open, open{claim: claim, class: class, free: s.Free(claim)})
	}
	if immediate {
		v.problem = "pod has unbound immediate PersistentVolumeClaims"
	}
	slices.SortStableFunc(v.open, func(a, b open) int {
		return cmp.Or(a.size().Cmp(*b.size()), cmp.Compare(a.claim.Name, b.claim.Name))
	})
	return v
}

// claimOf returns one of p's claims, or why p cannot be given a node for it.
func claimOf(p *corev1.Pod, name string, s Storage) (*corev1.PersistentVolumeClaim, string) {
	key := client.Key{Namespace: p.Namespace, Name: name}
	claim, ok := s.Claim(key)
	switch {
	case !ok:
		return nil, fmt.Sprintf("persistentvolumeclaim %q not found", name)
	case claim.Status.Phase == corev1.ClaimLost:
		return nil, fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
	case claim.DeletionTimestamp != nil:
		return nil, fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
	case isEphemeral(p, name) && !ownedBy(claim, p):
		return nil, fmt.Sprintf("PVC %s was not created for pod %s (pod is not owner)", key, client.KeyOf(p))
	}
	if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
		for _, o := range s.Users(key) {
			if o.UID != p.UID {
				return nil, "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
			}
		}
	}
	return claim, ""
}

// isEphemeral reports whether a claim is made for p alone.
func isEphemeral(p *corev1.Pod, claim string) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil && p.Name+"-"+v.Name == claim })
}

func ownedBy(claim *corev1.PersistentVolumeClaim, p *corev1.Pod) bool {
	for _, ref := range claim.OwnerReferences {
		if ref.UID == p.UID && ref.Controller != nil && *ref.Controller {
			return true
		}
	}
	return false
}

func reach(v *corev1.PersistentVolume) (b bound) {
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		b.terms = []nodeTerm{}
		for i := range a.Required.NodeSelectorTerms {
			if t, ok := compileTerm(&a.Required.NodeSelectorTerms[i]); ok {
				b.terms = append(b.terms, t)
			}
		}
	}
	for _, key := range topologyLabels {
		if value, ok := v.Labels[key]; ok {
			b.zones = append(b.zones, zoneLabel{key, strings.Split(value, "__")})
		}
	}
	return b
}

// topologyLabels are those of a volume that say where it is; several values are parted by two underscores.
var topologyLabels = []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion}

// objections returns why n cannot be, as far as the claims tell.
func (v *Volumes) objections(n *Node) []string {
	if v == nil {
		return nil
	}
	if v.problem != "" {
		return []string{v.problem}
	}
	_, why := v.on(n)
	return why
}

// on returns what the open claims get on a node, or why that cannot be.
func (v *Volumes) on(n *Node) ([]Choice, []string) {
	for _, b := range v.bound {
		if b.terms != nil && !slices.ContainsFunc(b.terms, func(t nodeTerm) bool { return t.matches(n.object) }) {
			return nil, unreachable
		}
		if !b.inZone(n) {
			return nil, otherZone
		}
	}
	var out []Choice
	taken := map[string]*corev1.PersistentVolume{}
	for _, o := range v.open {
		found, err := volume.FindMatchingVolume(o.claim, o.free, n.object, taken, false, true)
		if err == nil && found != nil {
			taken[found.Name] = found
			out = append(out, Choice{o.claim, found})
			continue
		}
		if !o.madeOn(n.object) {
			return nil, noVolume
		}
		out = append(out, Choice{Claim: o.claim})
	}
	return out, nil
}

func (b *bound) inZone(n *Node) bool {
	if !slices.ContainsFunc(topologyLabels, func(key string) bool { _, ok := n.object.Labels[key]; return ok }) {
		return true
	}
	for _, z := range b.zones {
		if !slices.Contains(z.values, n.object.Labels[z.key]) {
			return false
		}
	}
	return true
}

func (o *open) size() *resource.Quantity {
	q := o.claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return &q
}

// madeOn reports whether a volume can be made for the claim where n reaches it.
func (o *open) madeOn(n *corev1.Node) bool {
	if !api.Provisions(o.class) {
		return false
	}
	if at, ok := o.claim.Annotations[volume.AnnSelectedNode]; ok && at != n.Name {
		return false // decided, for another pod or by the Master before
	}
	return len(o.class.AllowedTopologies) == 0 || slices.ContainsFunc(o.class.AllowedTopologies, func(t corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(t.MatchLabelExpressions, func(r corev1.TopologySelectorLabelRequirement) bool {
			return !slices.Contains(r.Values, n.Labels[r.Key])
		})
	})
}

// With returns p with what its claims mean now.
func (p *Pod) With(v *Volumes) *Pod {
	if v == nil && p.volumes == nil {
		return p
	}
	out := *p
	out.volumes = v
	return &out
}

// Choices are what p's open claims get on the node that was chosen for it.
func (p *Pod) Choices(n *Node) []Choice {
	if p.volumes == nil {
		return nil
	}
	out, _ := p.volumes.on(n)
	return out
}
