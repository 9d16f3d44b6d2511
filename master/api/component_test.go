package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestComponentStatuses(t *testing.T) {
	s, _ := server(t)
	const path = "/api/v1/componentstatuses"
	w := do(t, s, "GET", path, "")
	var list corev1.ComponentStatusList
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Items) != 3 || list.Kind != "ComponentStatusList" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if c := list.Items[1].Conditions[0]; list.Items[1].Name != "etcd-0" || c.Type != corev1.ComponentHealthy || c.Status != corev1.ConditionTrue {
		t.Errorf("got %+v", list.Items[1])
	}
	for _, c := range []struct {
		method, path string
		code         int
		says         string
	}{
		{"GET", path + "/scheduler", 200, `"kind":"ComponentStatus"`},
		{"GET", path + "/captain", 404, `componentstatuses \"captain\" not found`},
		{"POST", path, 405, ""},
		{"DELETE", path + "/scheduler", 405, ""},
		{"GET", path + "/scheduler/status", 404, ""},
	} {
		if w := do(t, s, c.method, c.path, ""); w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}
