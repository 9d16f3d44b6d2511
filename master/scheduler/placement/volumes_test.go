package placement

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/client"
)

// shelf is a Storage.
type shelf struct {
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes []*corev1.PersistentVolume
	classes map[string]*storagev1.StorageClass
	users   []*corev1.Pod
}

func (s shelf) Claim(key client.Key) (*corev1.PersistentVolumeClaim, bool) {
	c, ok := s.claims[key.Name]
	return c, ok
}

func (s shelf) Volume(name string) (*corev1.PersistentVolume, bool) {
	for _, v := range s.volumes {
		if v.Name == name {
			return v, true
		}
	}
	return nil, false
}

func (s shelf) Class(name string) (*storagev1.StorageClass, bool) {
	c, ok := s.classes[name]
	return c, ok
}

func (s shelf) Free(*corev1.PersistentVolumeClaim) []*corev1.PersistentVolume { return s.volumes }
func (s shelf) Users(client.Key) []*corev1.Pod                                { return s.users }

func claim(name, class, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "uid-of-claim"}}
	c.Spec.StorageClassName, c.Spec.AccessModes = &class, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	for _, f := range change {
		f(c)
	}
	return c
}

// boundTo has a claim have a volume.
func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Annotations = volume, map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	}
}

// diskOn is a volume of the class disks that nodes with a label reach.
func diskOn(name, size, key, value string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
	v.Spec.StorageClassName, v.Spec.AccessModes = "disks", []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	if key != "" {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			expression(key, corev1.NodeSelectorOpIn, value),
		}}}
	}
	return v
}

// TestVolumesOfAPod names, case by case, what kube-scheduler's VolumeBinding, VolumeZone and VolumeRestrictions do.
func TestVolumesOfAPod(t *testing.T) {
	waits := storagev1.VolumeBindingWaitForFirstConsumer
	classes := map[string]*storagev1.StorageClass{
		"disks": {ObjectMeta: metav1.ObjectMeta{Name: "disks"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &waits},
		"made": {ObjectMeta: metav1.ObjectMeta{Name: "made"}, Provisioner: "example.org/made", VolumeBindingMode: &waits, AllowedTopologies: []corev1.TopologySelectorTerm{
			{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"2", "3"}}}},
		}},
	}
	zoned := diskOn("zoned", "1Gi", "", "")
	zoned.Labels = map[string]string{corev1.LabelTopologyZone: "2__3"}
	for name, c := range map[string]struct {
		claims []*corev1.PersistentVolumeClaim
		disks  []*corev1.PersistentVolume
		users  []*corev1.Pod
		want   string            // the node, or a part of the failure
		gets   map[string]string // by claim; empty for one that is made
	}{
		"a bound volume is in reach":      {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", boundTo("d"))}, disks: []*corev1.PersistentVolume{diskOn("d", "1Gi", "disk", "2")}, want: "b"},
		"a bound volume is out of reach":  {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", boundTo("d"))}, disks: []*corev1.PersistentVolume{diskOn("d", "1Gi", "disk", "9")}, want: "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."},
		"a bound volume of another zone":  {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", boundTo("zoned"))}, disks: []*corev1.PersistentVolume{zoned}, want: "b"},
		"a bound volume that is gone":     {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", boundTo("d"))}, want: `persistentvolumeclaim "c" bound to non-existent persistentvolume "d"`},
		"an open claim, and one disk":     {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi")}, disks: []*corev1.PersistentVolume{diskOn("d", "1Gi", "disk", "2")}, want: "b", gets: map[string]string{"c": "d"}},
		"an open claim larger than disks": {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "2Gi")}, disks: []*corev1.PersistentVolume{diskOn("d", "1Gi", "disk", "2")}, want: "2 node(s) didn't find available persistent volumes to bind"},
		"two claims, and two disks of one node": {
			claims: []*corev1.PersistentVolumeClaim{claim("large", "disks", "2Gi"), claim("small", "disks", "1Gi")},
			disks:  []*corev1.PersistentVolume{diskOn("d1", "2Gi", "disk", "2"), diskOn("d2", "1Gi", "disk", "2"), diskOn("d3", "9Gi", "disk", "1")},
			want:   "b", gets: map[string]string{"large": "d1", "small": "d2"},
		},
		"made where its class allows": {claims: []*corev1.PersistentVolumeClaim{claim("c", "made", "1Gi")}, want: "b", gets: map[string]string{"c": ""}},
		"made where it was decided": {claims: []*corev1.PersistentVolumeClaim{claim("c", "made", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "a"}
		})}, want: "2 node(s) didn't find available persistent volumes to bind"},
		"no such claim":               {want: `0/2 nodes are available: persistentvolumeclaim "c" not found.`},
		"a claim that waits for none": {claims: []*corev1.PersistentVolumeClaim{claim("c", "", "1Gi")}, want: "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		"a claim that is about to go": {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} })}, want: `persistentvolumeclaim "c" is being deleted`},
		"a claim that is lost":        {claims: []*corev1.PersistentVolumeClaim{claim("c", "disks", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost })}, want: `persistentvolumeclaim "c" bound to non-existent persistentvolume`},
		"a claim of one pod at a time": {claims: []*corev1.PersistentVolumeClaim{claim("c", "made", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		})}, users: []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{UID: "other"}}}, want: "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"},
	} {
		t.Run(name, func(t *testing.T) {
			s := shelf{claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: c.disks, classes: classes, users: c.users}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}
			names := []string{"c"}
			if len(c.claims) > 0 {
				names = nil
			}
			for _, one := range c.claims {
				s.claims[one.Name] = one
				names = append(names, one.Name)
			}
			for _, name := range names {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
				}})
			}
			cl := cluster(node("a", zone("1"), label("disk", "1")), node("b", zone("2"), label("disk", "2")))
			info := NewPod(p, "").With(NewVolumes(p, s))
			n, why := cl.Choose(info)
			if n == nil {
				if !strings.Contains(why.Message(), c.want) {
					t.Errorf("%s; want %s", why.Message(), c.want)
				}
				return
			}
			if n.Name != c.want {
				t.Fatalf("on %s, want %s", n.Name, c.want)
			}
			got := map[string]string{}
			for _, choice := range info.Choices(n) {
				got[choice.Claim.Name] = ""
				if choice.Volume != nil {
					got[choice.Claim.Name] = choice.Volume.Name
				}
			}
			if len(got) != len(c.gets) {
				t.Errorf("gets %v, want %v", got, c.gets)
			}
			for name, want := range c.gets {
				if is, ok := got[name]; !ok || is != want {
					t.Errorf("gets %v, want %v", got, c.gets)
				}
			}
		})
	}
}
