package master_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// testCA is what the API's certificates are signed by, as far as these tests go.
const testCA = "the CA"

func TestEveryNamespaceKeepsTheCA(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		ca := client.Key{Namespace: "default", Name: api.RootCAName}
		is := func(want string) {
			t.Helper()
			c.settle()
			m := get[*corev1.ConfigMap](c, api.ConfigMaps, ca.Namespace, ca.Name)
			if len(m.Data) != 1 || m.Data["ca.crt"] != want {
				t.Errorf("it holds %v", m.Data)
			}
		}
		is(testCA)
		m := get[*corev1.ConfigMap](c, api.ConfigMaps, ca.Namespace, ca.Name)
		m.Data = map[string]string{"ca.crt": "another", "more": "x"}
		if _, err := c.Update(c.Context(), api.ConfigMaps, m, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		is(testCA)
		for _, k := range []*api.Kind{api.ConfigMaps, api.ServiceAccounts} {
			key := ca
			if k == api.ServiceAccounts {
				key.Name = "default"
			}
			if _, err := c.Delete(c.Context(), k, key, client.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			is(testCA)
			get[*corev1.ServiceAccount](c, api.ServiceAccounts, "default", "default")
		}
		for _, pem := range []string{testCA + ", and another CA", "another CA"} {
			c.ca.set(pem)
			is(pem)
		}
	})
}

func TestClaimsAndVolumesGoWhenNobodyUsesThem(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		claim := func(name string) client.Key {
			c.create(api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Finalizers: []string{api.FinalizerClaim}},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
				},
			})
			return client.Key{Namespace: "default", Name: name}
		}
		user := func(name, claim, node string) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: podSpec()}
			p.Spec.NodeName = node
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}}
			c.create(api.Pods, p)
		}
		there := func(k *api.Kind, key client.Key, want bool) {
			t.Helper()
			c.settle()
			_, err := c.Get(c.Context(), k, key, client.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) || (err == nil) != want {
				t.Errorf("%s %s: %v, want it there: %v", k.Singular, key.Name, err, want)
			}
		}
		remove := func(k *api.Kind, key client.Key) {
			t.Helper()
			if _, err := c.Delete(c.Context(), k, key, client.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		idle, used := claim("idle"), claim("used")
		user("user", "used", "node-0")
		c.settle()
		remove(api.PersistentVolumeClaims, idle)
		there(api.PersistentVolumeClaims, idle, false)
		remove(api.PersistentVolumeClaims, used)
		there(api.PersistentVolumeClaims, used, true)
		remove(api.Pods, client.Key{Namespace: "default", Name: "user"})
		there(api.PersistentVolumeClaims, used, false)

		// A volume stays for as long as it is bound.
		c.create(api.PersistentVolumeClaims, newClaim("holder", "", "1Gi"))
		c.create(api.PersistentVolumes, newVolume("pv", "", "1Gi", ""))
		c.settle()
		volume, holder := client.Key{Name: "pv"}, client.Key{Namespace: "default", Name: "holder"}
		remove(api.PersistentVolumes, volume)
		there(api.PersistentVolumes, volume, true)
		remove(api.PersistentVolumeClaims, holder)
		there(api.PersistentVolumes, volume, false)
	})
}
