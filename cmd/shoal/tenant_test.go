package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTenantCreate(t *testing.T) {
	var got []string
	refused := ""
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == refused {
			refuse(w, 403, "no")
			return
		}
		b, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, b))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b)
	})
	out, stderr, code := cli(t, "", append(at, "tenant", "create", "team", "--cpu", "4", "--memory", "128Mi", "--pods", "20", "--user", "jane", "--group", "crew")...)
	if want := `tenant team: its pods are held to "restricted", and to limits.memory=128Mi, pods=20, requests.cpu=4, requests.memory=128Mi; they reach one another and nobody else: NetworkPolicies allow more, --network open all` + "\n"; code != 0 || out != want || stderr != "" {
		t.Errorf("code %d: %q, %q", code, out, stderr)
	}
	for i, want := range []string{
		`PATCH /api/v1/namespaces/team {"kind":"Namespace","apiVersion":"v1","metadata":{"name":"team","labels":{"pod-security.kubernetes.io/enforce":"restricted","shoal/net-raw":"drop","shoal/tenant":"team"}}`,
		`PATCH /apis/networking.k8s.io/v1/namespaces/team/networkpolicies/tenant {"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{"name":"tenant","namespace":"team","labels":{"shoal/tenant":"team"}},"spec":{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}],"egress":[{"to":[{"podSelector":{}}]}],"policyTypes":["Ingress","Egress"]}`,
		`PATCH /api/v1/namespaces/team/resourcequotas/tenant {"kind":"ResourceQuota","apiVersion":"v1","metadata":{"name":"tenant","namespace":"team","labels":{"shoal/tenant":"team"}},"spec":{"hard":{"limits.memory":"128Mi","pods":"20","requests.cpu":"4","requests.memory":"128Mi"}}`,
		`PATCH /api/v1/namespaces/team/limitranges/tenant {"kind":"LimitRange","apiVersion":"v1","metadata":{"name":"tenant","namespace":"team","labels":{"shoal/tenant":"team"}},"spec":{"limits":[{"type":"Container","default":{"memory":"128Mi"},"defaultRequest":{"cpu":"50m","memory":"128Mi"}}]}`,
		`PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings/tenant {"kind":"RoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"tenant","namespace":"team","labels":{"shoal/tenant":"team"}},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"jane"},{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"crew"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"admin"}`,
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Errorf("request %d:\n%v\nwant\n%s", i, got, want)
		}
	}
	got = nil
	if out, _, _ := cli(t, "", append(at, "tenant", "create", "team", "--network", "open")...); strings.Contains(out, "nobody else") || len(got) < 2 || !strings.Contains(got[1], `"ingress":[{}],"egress":[{}],"policyTypes":["Ingress","Egress"]`) {
		t.Errorf("open: %s, %v", out, got)
	}
	got = nil
	if cli(t, "", append(at, "tenant", "create", "team", "--security", "privileged")...); len(got) == 0 || strings.Contains(got[0], "net-raw") {
		t.Errorf("privileged: %v", got)
	}
	refused = "/api/v1/namespaces/team/limitranges/tenant"
	if _, stderr, code = cli(t, "", append(at, "tenant", "create", "team")...); code != exitFailed || !strings.Contains(stderr, "limitrange of tenant team: no\nWhat was made before stays") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

func TestTenantRefuses(t *testing.T) {
	at := server(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "asked") })
	for args, want := range map[string]string{
		"tenant create My_Team":               `"My_Team" is no name for a tenant`,
		"tenant create team --cpu four":       `--cpu "four" is no amount: write 4, 500m or 8Gi`,
		"tenant create team --memory=-1":      `--memory "-1" is no amount`,
		"tenant create team --pods=-1":        "--pods -1",
		"tenant create team --security loose": "--security",
		"tenant create team --network none":   "--network",
	} {
		_, stderr, code := cli(t, "", append(at, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("shoal %s: code %d, %s; want %s", args, code, stderr, want)
		}
	}
}

func TestTenantUsage(t *testing.T) {
	items := `{"kind":"ResourceQuota","apiVersion":"v1","metadata":{"namespace":"team","name":"tenant","labels":{"shoal/tenant":"team"}},"spec":{"hard":{"pods":"4","requests.cpu":"2","services":"0"}},"status":{"used":{"pods":"3","requests.cpu":"500m"}}}`
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		these := items
		if strings.Contains(r.URL.Path, "/other/") {
			these = ""
		}
		_, _ = fmt.Fprintf(w, `{"kind":"ResourceQuotaList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[%s]}`, these)
	})
	out, stderr, code := cli(t, "", append(at, "tenant", "usage")...)
	if want := "TENANT   WHAT           USED   OF   \nteam     pods           3      4    75%\nteam     requests.cpu   500m   2    25%\nteam     services       0      0    0%\n"; code != 0 || out != want {
		t.Errorf("code %d\n%s%s\nwant\n%s", code, out, stderr, want)
	}
	if _, stderr, code := cli(t, "", append(at, "tenant", "usage", "other")...); code != exitFailed || !strings.Contains(stderr, "other is no tenant") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
