package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	shoalapi "shoal/internal/api"
	"shoal/internal/audit"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/auth"
	"shoal/master/registry/registrytest"
)

// notes is an Auditor that remembers.
type notes struct {
	mu  sync.Mutex
	all []audit.Record
}

func (n *notes) Write(r audit.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, r)
}

// take returns what was noted since it was last called: "jane create pods/web/exec in ns: allow 201".
func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, r := range n.all {
		s := fmt.Sprintf("%s %s %s%s", r.User, r.Verb, r.Resource, r.Path)
		for _, part := range []string{r.Name, r.Subresource} {
			if part != "" {
				s += "/" + part
			}
		}
		out = append(out, fmt.Sprintf("%s: %s %d", s, r.Decision, r.Code))
	}
	n.all = nil
	return strings.Join(out, "; ")
}

// named authenticates who is called in a header, and lets nobody touch Roles.
type named struct{}

func (named) Authenticate(r *http.Request) (*api.User, error) {
	switch name := r.Header.Get("Name"); name {
	case "":
		return nil, apierrors.NewUnauthorized("who are you?")
	case "stranger":
		return &api.User{Name: auth.Anonymous, Groups: []string{auth.UnauthenticatedGroup}}, nil
	case "node":
		return &api.User{Name: name, Groups: []string{auth.NodesGroup}}, nil
	default:
		return &api.User{Name: name, By: r.Header.Get("By")}, nil
	}
}

func (named) Authorize(_ context.Context, _ *api.User, a *api.Attributes) error {
	if a.Resource == "roles" {
		return apierrors.NewForbidden(rbacv1.Resource("roles"), a.Name, fmt.Errorf("no"))
	}
	return nil
}

func (named) Rules(context.Context, *api.User, string) ([]rbacv1.PolicyRule, error) { return nil, nil }

func TestWhatIsNoted(t *testing.T) {
	reg, _ := registrytest.New(t)
	n := &notes{}
	h := api.New(api.Config{Registry: reg, Auth: named{}, Audit: n, Extra: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const core, secret = "/api/v1/namespaces/ns/", "topsecret"
	for _, c := range []struct{ user, method, path, body, want string }{
		{"jane", "POST", core + "configmaps", `{"metadata":{"name":"a"},"data":{"k":"` + secret + `"}}`, "jane create configmaps/a: allow 201"},
		{"jane", "GET", core + "configmaps/a", "", ""},
		{"jane", "GET", core + "configmaps?watch=1&timeoutSeconds=-1", "", ""},
		{"jane", "POST", core + "configmaps", `{"metadata":{"name":"a"}}`, "jane create configmaps: allow 409"},
		{"jane", "PUT", core + "configmaps/a", `{"metadata":{"name":"a"}}`, "jane update configmaps/a: allow 200"},
		{"jane", "PATCH", core + "configmaps/a", `{"data":{"x":"y"}}`, "jane patch configmaps/a: allow 200"},
		{"jane", "DELETE", core + "configmaps/a", "", "jane delete configmaps/a: allow 200"},
		{"jane", "DELETE", core + "configmaps", "", "jane deletecollection configmaps: allow 200"},
		{"jane", "GET", core + "secrets/none", "", "jane get secrets/none: allow 404"},
		{"jane", "GET", core + "secrets?watch=1&timeoutSeconds=-1", "", "jane watch secrets: allow 0"},
		{"jane", "POST", core + "pods/none/exec", "", "jane create pods/none/exec: allow 0"},
		{"jane", "GET", core + "pods/none/log", "", ""},
		{"jane", "GET", core + "services/none/proxy/", "", "jane get services/none/proxy: allow 0"},
		{"jane", "POST", core + "events", `{"metadata":{"name":"e"},"involvedObject":{"namespace":"ns"}}`, ""},
		{"jane", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{}`, ""},
		{"jane", "PUT", "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/roles/r", `{}`, "jane update roles/r: forbid 403"},
		{"jane", "GET", "/apis/rbac.authorization.k8s.io/v1/roles", "", "jane list roles: forbid 403"},
		{"", "GET", "/api/v1/pods", "", " list pods: forbid 401"},
		{"node", "PATCH", core + "pods/none/status", `{}`, ""},
		{"node", "PATCH", core + "pods/none", `{}`, "node patch pods/none: allow 404"},
		{"jane", "GET", "/shoal/v1/status", "", ""},
		{"stranger", "GET", "/shoal/v1/status", "", "system:anonymous get /shoal/v1/status: forbid 403"},
		{"jane", "POST", "/shoal/v1/tokens?x=" + secret, secret, "jane post /shoal/v1/tokens: allow 200"},
		{"jane", "GET", "/version", "", ""},
		{"jane", "GET", "/nowhere", "", ""},
	} {
		headers := []string{"Name", c.user, "Content-Type", "application/json", "User-Agent", "tests"}
		if c.method == "PATCH" {
			headers[3] = "application/merge-patch+json"
		}
		do(t, h, c.method, c.path, c.body, headers...)
		n.mu.Lock()
		text := fmt.Sprintf("%+v", n.all)
		n.mu.Unlock()
		if strings.Contains(text, secret) {
			t.Errorf("%s %s: a body, or a query, is noted: %s", c.method, c.path, text)
		}
		if d := cmp.Diff(c.want, n.take()); d != "" {
			t.Errorf("%s %s %s (-want +got):\n%s", c.user, c.method, c.path, d)
		}
	}
	do(t, h, "POST", core+"configmaps", `{"metadata":{"name":"b"}}`, "Name", "jane", "By", "root", "Content-Type", "application/json", "User-Agent", "tests")
	got := n.all[0]
	if got.By != "root" || got.Agent != "tests" || got.From == "" || got.Revision == "" || got.Time.IsZero() || got.Namespace != "ns" {
		t.Errorf("%+v", got)
	}
}

// TestStrangersDoNotFillTheLog however many there are; how many were not noted is.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	reg, _ := registrytest.New(t)
	n, now := &notes{}, time.Now()
	h := api.New(api.Config{Registry: reg, Auth: named{}, Audit: n, Now: func() time.Time { return now }})
	for range 1000 {
		do(t, h, "GET", "/api/v1/pods", "")
	}
	noted := len(n.all)
	if noted < 10 || noted > 300 {
		t.Errorf("%d of 1000 noted", noted)
	}
	do(t, h, "GET", "/apis/rbac.authorization.k8s.io/v1/roles", "", "Name", "jane")
	if got := len(n.all) - noted; got != 1 {
		t.Errorf("who is known is not noted: %d", got)
	}
	now = now.Add(time.Minute)
	do(t, h, "GET", "/api/v1/pods", "")
	if got, want := n.all[len(n.all)-1].Note, fmt.Sprintf("before it %d refused requests of strangers were not noted", 1000-noted); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
