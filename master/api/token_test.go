package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

// tokens issues "token of NAME, bound to OBJECT at NODE, for AUDIENCES" and knows only "good".
type tokens struct{}

func (tokens) Issue(_ context.Context, t api.AccountToken) (string, error) {
	s := "token of " + t.Account.Name
	if t.Bound != nil {
		s += ", bound to " + t.Bound.GetName()
	}
	if t.Node != nil {
		s += " at " + t.Node.Name
	}
	return s + ", for " + strings.Join(t.Audiences, "+") + ", " + t.Life.String(), nil
}

func (tokens) Review(_ context.Context, token string, audiences []string) (*api.User, []string, error) {
	if token != "good" {
		return nil, nil, errors.New("invalid bearer token")
	}
	return &api.User{Name: "robot", Extra: map[string][]string{"k": {"v"}}}, audiences, nil
}

func (tokens) Issuer() string        { return "https://issuer" }
func (tokens) Audiences() []string   { return []string{"us"} }
func (tokens) Keys() ([]byte, error) { return []byte(`{"keys":[]}`), nil }

func issuing(t *testing.T) string {
	t.Helper()
	reg, _ := registrytest.New(t)
	for _, o := range []struct {
		k   *shoalapi.Kind
		obj shoalapi.Object
	}{
		{shoalapi.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}},
		{shoalapi.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}}},
		{shoalapi.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot"}}},
		{shoalapi.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
			Spec:       corev1.PodSpec{NodeName: "one", ServiceAccountName: "robot", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}},
		{shoalapi.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "other"},
			Spec:       corev1.PodSpec{NodeName: "one", ServiceAccountName: "another", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}},
	} {
		if _, err := reg.Create(t.Context(), o.k, o.obj, client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}, Accounts: tokens{}}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestTokenRequests(t *testing.T) {
	t.Parallel()
	url := issuing(t)
	for name, tc := range map[string]struct {
		account, spec string
		code          int
		says          string
	}{
		"nothing said":          {"robot", `{}`, 201, "token of robot, for us, 1h0m0s"},
		"for others":            {"robot", `{"audiences":["a","b"],"expirationSeconds":600}`, 201, "token of robot, for a+b, 10m0s"},
		"bound to a pod":        {"robot", `{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"web"}}`, 201, "bound to web at one"},
		"too short":             {"robot", `{"expirationSeconds":10}`, 422, "may not specify a duration less than 10 minutes"},
		"too long":              {"robot", `{"expirationSeconds":99999999999}`, 422, "may not specify a duration larger than 2^32 seconds"},
		"no such account":       {"nobody", `{}`, 404, `serviceaccounts \"nobody\" not found`},
		"no such pod":           {"robot", `{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"nope"}}`, 404, `pods \"nope\" not found`},
		"another pod's account": {"robot", `{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"other"}}`, 400, "different serviceaccount"},
		"a pod made anew":       {"robot", `{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"web","uid":"old"}}`, 409, "does not match the UID"},
		"bound to a map":        {"robot", `{"boundObjectRef":{"kind":"ConfigMap","apiVersion":"v1","name":"m"}}`, 400, "cannot bind token to object of type /v1, Kind=ConfigMap"},
	} {
		code, body := post(t, url+"/api/v1/namespaces/ns/serviceaccounts/"+tc.account+"/token", `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":`+tc.spec+`}`)
		if code != tc.code || !strings.Contains(body, tc.says) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, body := post(t, url+"/api/v1/namespaces/ns/serviceaccounts/robot/token?dryRun=All", `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1"}`); code != 201 || strings.Contains(body, "token of") {
		t.Errorf("a dry run issued a token: %d %s", code, body)
	}
}

func TestANodeGetsTokensOfItsPodsOnly(t *testing.T) {
	t.Parallel()
	url := issuing(t)
	ask := func(node, spec string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/namespaces/ns/serviceaccounts/robot/token",
			strings.NewReader(`{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":`+spec+`}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Shoal-User", "system:node:"+node)
		req.Header.Set("X-Shoal-Groups", "system:nodes")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	bound := `{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"web"}}`
	if a, b, c := ask("one", bound), ask("two", bound), ask("one", `{}`); a != 201 || b != 403 || c != 403 {
		t.Errorf("its own pod's %d, another's %d, nobody's %d", a, b, c)
	}
}

func TestTokenReviews(t *testing.T) {
	t.Parallel()
	url := issuing(t) + "/apis/authentication.k8s.io/v1/tokenreviews"
	for token, want := range map[string]string{
		"good": `"status":{"authenticated":true,"user":{"username":"robot","extra":{"k":["v"]}},"audiences":["x"]}`,
		"bad":  `"status":{"user":{},"error":"invalid bearer token"}`,
	} {
		code, body := post(t, url, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"`+token+`","audiences":["x"]}}`)
		if code != 201 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", token, code, body)
		}
	}
	if code, body := post(t, url, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{}}`); code != 400 || !strings.Contains(body, "token is required") {
		t.Errorf("%d %s", code, body)
	}
}

func TestRulesReviews(t *testing.T) {
	t.Parallel()
	url := issuing(t) + "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
	code, body := post(t, url, `{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","spec":{"namespace":"ns"}}`)
	want := `"status":{"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}],"nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["*"]}],"incomplete":false}`
	if code != 201 || !strings.Contains(body, want) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := post(t, url, `{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","spec":{}}`); code != 400 || !strings.Contains(body, "no namespace on request") {
		t.Errorf("%d %s", code, body)
	}
}

func TestOthersLearnHowToCheckTokens(t *testing.T) {
	t.Parallel()
	url := issuing(t)
	code, body := fetch(t, url+"/.well-known/openid-configuration", "*/*")
	var doc struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != 200 || doc.Issuer != "https://issuer" || !strings.HasSuffix(doc.Keys, "/openid/v1/jwks") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := fetch(t, url+"/openid/v1/jwks", "*/*"); code != 200 || body != `{"keys":[]}` {
		t.Errorf("%d %s", code, body)
	}
}
