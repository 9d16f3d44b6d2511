package api_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// TestANodesPeerIsAsked asks one peer for what another serves of its machine.
func TestANodesPeerIsAsked(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"master", "third"} {
		if _, err := c.master.reg.Create(t.Context(), shoalapi.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	fetch(t, c.master.http.URL+"/api/v1/nodes/master", "application/json") // its own counts know of it
	for path, want := range map[string]struct {
		code int
		says string
	}{
		"master/proxy/metrics":        {200, `resource="nodes",scope="resource"`},
		"master/proxy/healthz":        {200, "ok"},
		"master/proxy/healthz?a=b":    {200, "ok"},
		"master/proxy/":               {404, "a node serves /healthz, /metrics, /metrics/cadvisor, /metrics/resource and /stats/summary"},
		"master/proxy":                {404, "a node serves"},
		"master/proxy/../../v1/pods":  {404, ""},
		"master/proxy/api/v1/secrets": {404, "a node serves"},
		"nobody/proxy/metrics":        {404, `nodes \"nobody\" not found`},
		"third/proxy/metrics":         {503, "the peer of node third does not answer"},
	} {
		if code, body := fetch(t, c.other.http.URL+"/api/v1/nodes/"+path, "application/json"); code != want.code || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %.300s", path, code, body)
		}
	}
	if code, body := post(t, c.other.http.URL+"/api/v1/nodes/master/proxy/metrics", "{}"); code != 404 {
		t.Errorf("POST: %d %.300s", code, body)
	}
}
