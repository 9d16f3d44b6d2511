package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry/registrytest"
)

// hookServer is a webhook behind the Service default/hook, and at a URL.
type hookServer struct {
	*httptest.Server
	bundle []byte

	mu     sync.Mutex
	asked  []*admissionv1.AdmissionRequest
	answer func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse
	raw    func(w http.ResponseWriter, r *http.Request, q *admissionv1.AdmissionRequest) // answers instead
}

func newHookServer(t *testing.T) *hookServer {
	t.Helper()
	s := &hookServer{answer: func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, review.Request)
		if s.raw != nil {
			s.raw(w, r, review.Request)
			return
		}
		review.Response = s.answer(review.Request)
		review.Response.UID = review.Request.UID
		_ = json.NewEncoder(w).Encode(review)
	}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"hook.default.svc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s.bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *hookServer) questions() []*admissionv1.AdmissionRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	return out
}

func (s *hookServer) byURL() admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{URL: new(s.URL + "/admit?x=y"), CABundle: s.bundle}
}

// validating returns a hook for all pods.
func validating(cc admissionregistrationv1.WebhookClientConfig, changes ...func(*admissionregistrationv1.ValidatingWebhook)) *admissionregistrationv1.ValidatingWebhookConfiguration {
	none := admissionregistrationv1.SideEffectClassNone
	w := admissionregistrationv1.ValidatingWebhook{
		Name: "v.example.org", ClientConfig: cc, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{"*"},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
	}
	for _, change := range changes {
		change(&w)
	}
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{w},
	}
	api.ValidatingWebhookConfigurations.Default(c)
	return c
}

func mutating(name string, cc admissionregistrationv1.WebhookClientConfig, changes ...func(*admissionregistrationv1.MutatingWebhook)) *admissionregistrationv1.MutatingWebhookConfiguration {
	v := validating(cc).Webhooks[0]
	w := admissionregistrationv1.MutatingWebhook{
		Name: name + ".example.org", ClientConfig: cc, SideEffects: v.SideEffects, AdmissionReviewVersions: v.AdmissionReviewVersions, Rules: v.Rules,
	}
	for _, change := range changes {
		change(&w)
	}
	c := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.MutatingWebhook{w}}
	api.MutatingWebhookConfigurations.Default(c)
	return c
}

func hookedPod() *Request {
	r := podRequest("default", corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "app"}}})
	r.Object.SetLabels(map[string]string{"app": "web"})
	r.Object.GetObjectKind().SetGroupVersionKind(api.Pods.GroupVersionKind)
	api.Pods.Default(r.Object)
	r.User = &User{Name: "jane", UID: "7", Groups: []string{"crew"}, Extra: map[string][]string{"k": {"v"}}}
	return r
}

func validate(ctx context.Context, s shelf, r *Request) error {
	return validatingWebhooks{s, newCaller(s, nil)}.Admit(ctx, r)
}

func TestAHookIsTold(t *testing.T) {
	hook := newHookServer(t)
	s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL()))
	r := hookedPod()
	if err := validate(t.Context(), s, r); err != nil {
		t.Fatal(err)
	}
	q := hook.questions()
	if len(q) != 1 {
		t.Fatalf("%d questions", len(q))
	}
	kind, resource := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	if q[0].Kind != kind || q[0].Resource != resource || *q[0].RequestKind != kind || q[0].Operation != "CREATE" || q[0].Name != "p" || q[0].Namespace != "default" ||
		q[0].UserInfo.Username != "jane" || q[0].UserInfo.UID != "7" || q[0].UserInfo.Extra["k"][0] != "v" || *q[0].DryRun || q[0].UID == "" {
		t.Errorf("%+v", q[0])
	}
	p := &corev1.Pod{}
	if err := json.Unmarshal(q[0].Object.Raw, p); err != nil || p.Kind != "Pod" || p.Spec.Containers[0].Image != "app" || q[0].OldObject.Raw != nil {
		t.Errorf("%v, %s, old %s", err, q[0].Object.Raw, q[0].OldObject.Raw)
	}
	r.Operation, r.Object, r.OldObject, r.User = Delete, nil, r.Object, nil
	if err := validate(t.Context(), s, r); err != nil {
		t.Fatal(err)
	}
	if q = hook.questions(); len(q) != 1 || q[0].Object.Raw != nil || q[0].OldObject.Raw == nil || q[0].UserInfo.Username != component {
		t.Errorf("a deletion by this process: %+v", q)
	}
}

func TestAHookRefuses(t *testing.T) {
	hook := newHookServer(t)
	s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL()))
	for _, c := range []struct {
		result  *metav1.Status
		code    int32
		message string
	}{
		{nil, 400, `admission webhook "v.example.org" denied the request without explanation`},
		{&metav1.Status{Message: "no"}, 400, `admission webhook "v.example.org" denied the request: no`},
		{&metav1.Status{Code: 403, Reason: "Forbidden"}, 403, `admission webhook "v.example.org" denied the request: Forbidden`},
		{&metav1.Status{Code: 200, Status: "Success", Message: "odd"}, 400, `admission webhook "v.example.org" denied the request: odd`},
	} {
		hook.answer = func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Result: c.result, Warnings: []string{"careful"}}
		}
		r := hookedPod()
		var warned []string
		r.Warn = func(text string) { warned = append(warned, text) }
		err := validate(t.Context(), s, r)
		status, ok := err.(*apierrors.StatusError)
		if !ok || status.ErrStatus.Code != c.code || status.ErrStatus.Message != c.message || status.ErrStatus.Status != metav1.StatusFailure {
			t.Errorf("%+v: %v", c.result, err)
		}
		if len(warned) != 1 || warned[0] != "careful" {
			t.Errorf("warned: %q", warned)
		}
	}
}

func TestWhatAHookWantsToSee(t *testing.T) {
	rule := func(f func(r *admissionregistrationv1.RuleWithOperations)) func(*admissionregistrationv1.ValidatingWebhook) {
		return func(w *admissionregistrationv1.ValidatingWebhook) { f(&w.Rules[0]) }
	}
	labelled := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	exact, namespaced, global := admissionregistrationv1.Exact, admissionregistrationv1.NamespacedScope, admissionregistrationv1.ClusterScope
	status := func(r *Request) { r.Operation, r.Subresource, r.OldObject = Update, "status", r.Object }
	for name, c := range map[string]struct {
		hook    func(*admissionregistrationv1.ValidatingWebhook)
		request func(r *Request)
		want    bool
	}{
		"all":                    {want: true},
		"another operation":      {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Operations[0] = "UPDATE" })},
		"the operation":          {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Operations[0] = "CREATE" }), want: true},
		"another group":          {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.APIGroups[0] = "apps" })},
		"any group":              {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.APIGroups[0] = "*" }), want: true},
		"another version counts": {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.APIVersions[0] = "v2" }), want: true},
		"another version, exact": {hook: func(w *admissionregistrationv1.ValidatingWebhook) {
			w.Rules[0].APIVersions[0], w.MatchPolicy = "v2", &exact
		}},
		"another resource":   {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "services" })},
		"any resource":       {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "*" }), want: true},
		"not its status":     {request: status},
		"any, but no status": {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "*" }), request: status},
		"the status":         {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "pods/status" }), request: status, want: true},
		"any subresource":    {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "pods/*" }), request: status, want: true},
		"any status":         {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "*/status" }), request: status, want: true},
		"all of everything":  {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Resources[0] = "*/*" }), want: true},
		"namespaced":         {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Scope = &namespaced }), want: true},
		"of the cluster":     {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.Scope = &global })},
		"its labels":         {hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.ObjectSelector = labelled("app", "web") }, want: true},
		"other labels":       {hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.ObjectSelector = labelled("app", "db") }},
		"labels it had": {
			hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.ObjectSelector = labelled("app", "db") },
			request: func(r *Request) {
				r.Operation, r.OldObject = Update, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}}}
			}, want: true,
		},
		"its namespace's labels":    {hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.NamespaceSelector = labelled("team", "a") }, want: true},
		"other namespaces":          {hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.NamespaceSelector = labelled("team", "b") }},
		"a namespace that is not":   {hook: func(w *admissionregistrationv1.ValidatingWebhook) { w.NamespaceSelector = labelled("team", "a") }, request: func(r *Request) { r.Key.Namespace = "nowhere" }},
		"webhooks are never hooked": {hook: rule(func(r *admissionregistrationv1.RuleWithOperations) { r.APIGroups[0], r.Resources[0] = "*", "*" }), request: func(r *Request) { r.Kind = api.MutatingWebhookConfigurations }},
		"a namespace by its own labels": {
			hook: func(w *admissionregistrationv1.ValidatingWebhook) {
				w.Rules[0].Resources[0], w.NamespaceSelector = "namespaces", labelled("team", "c")
			},
			request: func(r *Request) {
				n := namespace("c", corev1.NamespaceActive)
				n.Labels = map[string]string{"team": "c"}
				r.Kind, r.Object, r.Key = api.Namespaces, n, client.Key{Name: "c"}
			}, want: true,
		},
	} {
		hook := newHookServer(t)
		change := c.hook
		if change == nil {
			change = func(*admissionregistrationv1.ValidatingWebhook) {}
		}
		s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL(), change))
		ns := namespace("default", corev1.NamespaceActive)
		ns.Labels = map[string]string{"team": "a"}
		s.put(api.Namespaces, ns)
		r := hookedPod()
		if c.request != nil {
			c.request(r)
		}
		if err := validate(t.Context(), s, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(hook.questions()) == 1; got != c.want {
			t.Errorf("%s: asked %t, want %t", name, got, c.want)
		}
	}
}

func TestAHookThatFails(t *testing.T) {
	ignore := admissionregistrationv1.Ignore
	reply := func(text string) func(http.ResponseWriter, *http.Request, *admissionv1.AdmissionRequest) {
		return func(w http.ResponseWriter, _ *http.Request, q *admissionv1.AdmissionRequest) {
			fmt.Fprint(w, strings.ReplaceAll(text, "UID", string(q.UID)))
		}
	}
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":`
	for want, raw := range map[string]func(http.ResponseWriter, *http.Request, *admissionv1.AdmissionRequest){
		"500 Internal Server Error: oh": func(w http.ResponseWriter, _ *http.Request, _ *admissionv1.AdmissionRequest) {
			w.WriteHeader(500)
			fmt.Fprint(w, "oh")
		},
		"its answer is no AdmissionReview": reply("rubbish"),
		"its answer has no response":       reply(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`),
		"expected webhook response of":     reply(`{"kind":"AdmissionReview","response":{"uid":"UID","allowed":true}}`),
		`expected response.uid=`:           reply(head + `{"uid":"other","allowed":true}}`),
		"response.patch but not":           reply(head + `{"uid":"UID","allowed":true,"patch":"W10="}}`),
		"response.patchType but not":       reply(head + `{"uid":"UID","allowed":true,"patchType":"JSONPatch"}}`),
		"invalid response.patchType of":    reply(head + `{"uid":"UID","allowed":true,"patch":"W10=","patchType":"x"}}`),
		"longer than": func(w http.ResponseWriter, _ *http.Request, _ *admissionv1.AdmissionRequest) {
			_, _ = io.CopyN(w, zeros{}, mostAnswer+2)
		},
		"it redirects, which webhooks may not": func(w http.ResponseWriter, r *http.Request, _ *admissionv1.AdmissionRequest) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		},
		"EOF": func(http.ResponseWriter, *http.Request, *admissionv1.AdmissionRequest) { panic(http.ErrAbortHandler) },
	} {
		hook := newHookServer(t)
		hook.raw = raw
		s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL()))
		err := validate(t.Context(), s, hookedPod())
		if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "v.example.org"`) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		s.put(api.ValidatingWebhookConfigurations, validating(hook.byURL(), func(w *admissionregistrationv1.ValidatingWebhook) { w.FailurePolicy = &ignore }))
		r, warned := hookedPod(), ""
		r.Warn = func(text string) { warned += text }
		if err := validate(t.Context(), s, r); err != nil || !strings.Contains(warned, want) {
			t.Errorf("%s, ignored: %v, warned %q", want, err, warned)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestAHookThatCannotBeReached(t *testing.T) {
	hook := newHookServer(t)
	service := &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "hook"}
	for want, change := range map[string]func(*admissionregistrationv1.ValidatingWebhook){
		"context deadline exceeded":                func(w *admissionregistrationv1.ValidatingWebhook) { w.TimeoutSeconds = new(int32(0)) },
		"certificate signed by unknown authority":  func(w *admissionregistrationv1.ValidatingWebhook) { w.ClientConfig.CABundle = newHookServer(t).bundle },
		"clientConfig.caBundle has no certificate": func(w *admissionregistrationv1.ValidatingWebhook) { w.ClientConfig.CABundle = []byte("x") },
		`services "hook" not found`: func(w *admissionregistrationv1.ValidatingWebhook) {
			w.ClientConfig.URL, w.ClientConfig.Service = nil, service
		},
		"neither a service nor a url":                  func(w *admissionregistrationv1.ValidatingWebhook) { w.ClientConfig.URL = nil },
		"does not take AdmissionReviews of version v1": func(w *admissionregistrationv1.ValidatingWebhook) { w.AdmissionReviewVersions = []string{"v1beta1"} },
	} {
		s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL(), change))
		if err := validate(t.Context(), s, hookedPod()); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAHookBehindAService(t *testing.T) {
	hook := newHookServer(t)
	cc := admissionregistrationv1.WebhookClientConfig{
		CABundle: hook.bundle, Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "hook", Path: new("/admit?a=b")},
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hook"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.9", Ports: []corev1.ServicePort{{Port: 443}}},
	}
	s := newShelf().put(api.ValidatingWebhookConfigurations, validating(cc)).put(api.Services, svc)
	var path string
	hook.raw = func(w http.ResponseWriter, r *http.Request, q *admissionv1.AdmissionRequest) {
		path = r.Host + r.URL.String()
		fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, q.UID)
	}
	calls, dialled := newCaller(s, nil), ""
	calls.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled += address + " "
		return (&net.Dialer{}).DialContext(ctx, network, hook.Listener.Addr().String())
	}
	for range 3 {
		if err := (validatingWebhooks{s, calls}).Admit(t.Context(), hookedPod()); err != nil {
			t.Fatal(err)
		}
	}
	if want := "hook.default.svc:443/admit?a=b&timeout=10s"; path != want {
		t.Errorf("asked %s, want %s", path, want)
	}
	if dialled != "10.43.0.9:443 " {
		t.Errorf("connected to %q, want once to the cluster IP", dialled)
	}
	svc.Spec.ClusterIP = "None"
	if err := (validatingWebhooks{s, calls}).Admit(t.Context(), hookedPod()); err == nil || !strings.Contains(err.Error(), "has no cluster IP") {
		t.Errorf("headless: %v", err)
	}
	svc.Spec.ClusterIP, svc.Spec.Ports[0].Port = "10.43.0.9", 80
	if err := (validatingWebhooks{s, calls}).Admit(t.Context(), hookedPod()); err == nil || !strings.Contains(err.Error(), "has no port 443") {
		t.Errorf("another port: %v", err)
	}
}

func TestDryRuns(t *testing.T) {
	for effects, want := range map[admissionregistrationv1.SideEffectClass]bool{"None": true, "NoneOnDryRun": true, "Some": false, "Unknown": false} {
		hook := newHookServer(t)
		s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL(), func(w *admissionregistrationv1.ValidatingWebhook) { w.SideEffects = &effects }))
		r := hookedPod()
		r.DryRun = true
		err := validate(t.Context(), s, r)
		if want != (err == nil) || err != nil && (!apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `"v.example.org" does not support dry run`)) {
			t.Errorf("%s: %v", effects, err)
		}
		if q := hook.questions(); want != (len(q) == 1) || len(q) == 1 && !*q[0].DryRun {
			t.Errorf("%s: asked %+v", effects, q)
		}
	}
}

// patch answers with a JSON patch.
func patch(text string) *admissionv1.AdmissionResponse {
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(text), PatchType: &kind}
}

func TestHooksChangeObjects(t *testing.T) {
	a, b := newHookServer(t), newHookServer(t)
	again := admissionregistrationv1.IfNeededReinvocationPolicy
	s := newShelf().
		put(api.MutatingWebhookConfigurations, mutating("b", b.byURL())).
		put(api.MutatingWebhookConfigurations, mutating("a", a.byURL(), func(w *admissionregistrationv1.MutatingWebhook) { w.ReinvocationPolicy = &again }))
	a.answer = func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patch(`[{"op":"add","path":"/metadata/annotations","value":{"by":"a"}}]`)
	}
	b.answer = func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if !strings.Contains(string(q.Object.Raw), `"by":"a"`) {
			t.Errorf("b does not see what a did: %s", q.Object.Raw)
		}
		return patch(`[{"op":"add","path":"/spec/containers/-","value":{"name":"sidecar","image":"proxy"}},{"op":"replace","path":"/metadata/name","value":"other"},{"op":"add","path":"/metadata/uid","value":"other"}]`)
	}
	r := hookedPod()
	p := r.Object.(*corev1.Pod)
	p.UID = "mine"
	if err := (mutatingWebhooks{s, newCaller(s, nil)}).Admit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if r.Object != api.Object(p) {
		t.Error("the object is another one: whoever asked keeps the old one")
	}
	if len(p.Spec.Containers) != 2 || p.Annotations["by"] != "a" || p.Name != "p" || p.UID != "mine" || p.Spec.Containers[1].TerminationMessagePath == "" {
		t.Errorf("%+v", p)
	}
	if n := len(a.questions()); n != 2 {
		t.Errorf("a was asked %d times, want again after b's change", n)
	}
	if n := len(b.questions()); n != 1 {
		t.Errorf("b was asked %d times", n)
	}
}

func TestPatchesThatDoNotFit(t *testing.T) {
	hook := newHookServer(t)
	s := newShelf().put(api.MutatingWebhookConfigurations, mutating("m", hook.byURL()))
	for text, want := range map[string]string{
		"rubbish": "failed calling webhook",
		`[{"op":"replace","path":"/nowhere/at/all","value":1}]`: "failed calling webhook",
		`[{"op":"add","path":"/spec","value":"text"}]`:          "made no Pod of the object",
		`[]`: "",
		`[{"op":"test","path":"/metadata/name","value":"p"}]`: "",
	} {
		hook.answer = func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return patch(text) }
		r := hookedPod()
		before := r.Object.DeepCopyObject()
		err := (mutatingWebhooks{s, newCaller(s, nil)}).Admit(t.Context(), r)
		if want == "" && err != nil || want != "" && (!apierrors.IsInternalError(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if d := cmp.Diff(before, any(r.Object)); d != "" {
			t.Errorf("%s: half applied:\n%s", text, d)
		}
	}
	r := hookedPod()
	r.Operation, r.Object, r.OldObject = Delete, nil, r.Object
	hook.answer = func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return patch(`[{"op":"remove","path":"/spec"}]`)
	}
	if err := (mutatingWebhooks{s, newCaller(s, nil)}).Admit(t.Context(), r); err == nil || !strings.Contains(err.Error(), "not supported for this operation") {
		t.Errorf("a patch of a deletion: %v", err)
	}
}

func FuzzHookAnswers(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}}`))
	f.Add([]byte(`{"response":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := answerOf(text, &admissionv1.AdmissionRequest{UID: "u"})
		if err != nil {
			return
		}
		if a.UID != "u" {
			t.Errorf("an answer to somebody else: %s", text)
		}
		r := hookedPod()
		_, _ = change(hook{}, r, a)
		if r.Object.GetName() != "p" {
			t.Errorf("renamed by %s", text)
		}
	})
}

// BenchmarkWithoutWebhooks is what every write pays.
func BenchmarkWithoutWebhooks(b *testing.B) {
	r, _ := registrytest.New(b)
	calls := newCaller(r, nil)
	q := hookedPod()
	b.ReportAllocs()
	for b.Loop() {
		if err := (mutatingWebhooks{r, calls}).Admit(b.Context(), q); err != nil {
			b.Fatal(err)
		}
		if err := (validatingWebhooks{r, calls}).Admit(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}
