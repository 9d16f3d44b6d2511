package simulate

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// storage is the claims and volumes of the picture. It implements placement.Storage. Nothing is given away on paper: two pods that wait for
// their first volumes may both be said to fit where there is one.
type storage struct {
	claims  map[client.Key]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	classes map[string]*storagev1.StorageClass
}

func newStorage(o Objects) storage {
	s := storage{
		claims: map[client.Key]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}, classes: map[string]*storagev1.StorageClass{},
	}
	for _, c := range o.Claims {
		s.claims[client.KeyOf(c)] = c
	}
	for _, v := range o.Volumes {
		s.volumes[v.Name] = v
	}
	for _, c := range o.StorageClasses {
		s.classes[c.Name] = c
	}
	return s
}

func (s storage) Claim(key client.Key) (*corev1.PersistentVolumeClaim, bool) {
	c, ok := s.claims[key]
	return c, ok
}

func (s storage) Volume(name string) (*corev1.PersistentVolume, bool) {
	v, ok := s.volumes[name]
	return v, ok
}

func (s storage) Class(name string) (*storagev1.StorageClass, bool) {
	c, ok := s.classes[name]
	return c, ok
}

func (s storage) Free(claim *corev1.PersistentVolumeClaim) (free []*corev1.PersistentVolume) {
	for _, v := range s.volumes {
		if v.Spec.ClaimRef == nil || volume.IsVolumeBoundToClaim(v, claim) {
			free = append(free, v)
		}
	}
	return free
}

// Users says that nobody uses a claim: who is asked about takes the place of who does.
func (s storage) Users(client.Key) []*corev1.Pod { return nil }

// volumes are what a pod's claims mean. Claims that are not there are made together with the pod, and ask for nothing.
func (p *Paper) volumes(pod *corev1.Pod) *placement.Volumes {
	for _, name := range api.ClaimsOf(pod) {
		if _, ok := p.storage.claims[client.Key{Namespace: pod.Namespace, Name: name}]; !ok && pod.CreationTimestamp.IsZero() {
			return nil
		}
	}
	return placement.NewVolumes(pod, p.storage)
}
