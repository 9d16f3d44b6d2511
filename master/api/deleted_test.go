package api_test

import (
	"encoding/json"
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Some kinds answer a deletion with what was deleted, the others with a Status.
func TestDeletionsShowWhatWasDeleted(t *testing.T) {
	s, _ := server(t)
	for _, c := range []struct{ path, object, want string }{
		{"/api/v1/namespaces/ns/resourcequotas", `{"metadata":{"name":"x"}}`, "ResourceQuota"},
		{"/api/v1/namespaces/ns/limitranges", `{"metadata":{"name":"x"}}`, "Status"},
		{"/apis/storage.k8s.io/v1/storageclasses", `{"metadata":{"name":"x"},"provisioner":"p"}`, "StorageClass"},
		{"/apis/storage.k8s.io/v1/namespaces/ns/csistoragecapacities", `{"metadata":{"name":"x"},"storageClassName":"s"}`, "Status"},
		{"/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"x"}}`, "Status"},
	} {
		if w := do(t, s, "POST", c.path, c.object, "Content-Type", "application/json"); w.Code != http.StatusCreated {
			t.Fatalf("%s: %d %s", c.path, w.Code, w.Body)
		}
		w := do(t, s, "DELETE", c.path+"/x", "")
		var got metav1.TypeMeta
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got.Kind != c.want {
			t.Errorf("%s: %d %s (%v), want a %s", c.path, w.Code, got.Kind, err, c.want)
		}
	}
}
