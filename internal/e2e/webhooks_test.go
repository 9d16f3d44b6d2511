//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// hookManifest is a webhook behind a Service, with its certificate, and what calls it for pods of namespaces that are labelled so.
func hookManifest(t *testing.T) (server, configurations string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"hook.default.svc"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	bundle := text("CERTIFICATE", der)
	server = fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: hook}
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: hook}
spec:
  replicas: 1
  selector: {app: hook}
  template:
    metadata: {labels: {app: hook}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: tls, secret: {secretName: hook}}]
      containers:
      - name: probe
        image: shoal.local/probe:1
        args: [webhook, /tls]
        volumeMounts: [{name: tls, mountPath: /tls}]
        readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
`, bundle, text("PRIVATE KEY", private))
	one := func(kind, path string) string {
		return fmt.Sprintf(`
---
apiVersion: admissionregistration.k8s.io/v1
kind: %sWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.example.org
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 3
  clientConfig: {service: {namespace: default, name: hook, path: %s}, caBundle: %s}
  namespaceSelector: {matchLabels: {hooked: "yes"}}
  rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
`, kind, path, bundle)
	}
	return server, one("Mutating", "/mutate") + one("Validating", "/validate")
}

// TestWebhooks has a webhook in the cluster change and refuse pods, whoever makes them and whoever is Master, and takes it away.
func TestWebhooks(t *testing.T) {
	c := startLab(t, 3)
	server, configurations := hookManifest(t)
	apply(t, server)
	running(t, c.api, "hook", 1, 30*time.Second)
	apply(t, configurations+"\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: hooked, labels: {hooked: \"yes\"}}\n")
	inNamespace := func(manifest string) string {
		return strings.ReplaceAll(manifest, "metadata: {name: ", "metadata: {namespace: hooked, name: ")
	}
	hooked := func(name string) string {
		t.Helper()
		l, err := c.api.List(t.Context(), api.Pods, client.ListOptions{Namespace: "hooked", Labels: labels.SelectorFromSet(labels.Set{"app": name})})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, o := range l.Items {
			out = append(out, o.(*corev1.Pod).Annotations["hooked"])
		}
		return strings.Join(out, " ")
	}
	try := func(manifest string) error { return tryApply(t.Context(), manifest) }
	denied := strings.Replace(inNamespace(pod("bad", "peer-1", "sleep")), "labels: {", "labels: {deny: now, ", 1)
	stopped := ""
	for i := range 2 { // the second time with another Master
		name := fmt.Sprintf("good-%d", i)
		if err := try(inNamespace(pod(name, "peer-2", "sleep"))); err != nil {
			t.Fatal(err)
		}
		if got := hooked(name); got == "" || strings.HasPrefix(got, "system:kube-controller") {
			t.Errorf("annotation %q, want who made it", got)
		}
		if err := try(denied); err == nil || !strings.Contains(err.Error(), `admission webhook "hook.example.org" denied the request: labelled deny`) {
			t.Errorf("what is to be refused: %v", err)
		}
		if err := try(strings.Replace(denied, "namespace: hooked", "namespace: default", 1)); err != nil {
			t.Errorf("in a namespace that is not hooked: %v", err)
		}
		if i == 0 {
			shoal(t, "delete", "pod", "bad", "--now")
			apply(t, inNamespace(web(2)))
			within(t, 20*time.Second, "pods that a controller makes", func(context.Context) error {
				if got := hooked("web"); strings.Count(got, "system:kube-controller-manager") != 2 {
					return fmt.Errorf("annotations %q", got)
				}
				return nil
			})
			old := master(t)
			shoal(t, "lab", "stop", old)
			c.api = clientFor(t, c.others(old)...)
			within(t, 10*time.Second, "another Master", func(context.Context) error {
				if now := master(t); now == "" || now == old {
					return errNotYet
				}
				return nil
			})
			stopped = old
		}
	}
	shoal(t, "lab", "start", stopped)
	shoal(t, "scale", "rc", "hook", "--replicas", "0")
	gone(t, c.api, "hook", 20*time.Second)
	err := try(inNamespace(pod("late", "peer-1", "sleep")))
	if err == nil || !strings.Contains(err.Error(), `failed calling webhook "hook.example.org"`) {
		t.Errorf("without the webhook: %v", err)
	}
	if _, err := c.api.Get(t.Context(), api.Pods, client.Key{Namespace: "hooked", Name: "late"}, client.GetOptions{}); err == nil {
		t.Error("it is there all the same")
	}
	if err := try(pod("elsewhere", "peer-1", "sleep")); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
	shoal(t, "delete", "mutatingwebhookconfiguration", "hook")
	shoal(t, "delete", "validatingwebhookconfiguration", "hook")
	if err := try(inNamespace(pod("late", "peer-1", "sleep"))); err != nil {
		t.Errorf("without configurations: %v", err)
	}
}

const expressions = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {resourceRules: [{operations: [CREATE, UPDATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]}
  matchConditions: [{name: not-admired, expression: "!has(object.metadata.labels) || !('admired' in object.metadata.labels)"}]
  variables: [{name: most, expression: "int(params.data['most'])"}]
  validations: [{expression: "object.spec.replicas <= variables.most", messageExpression: "'at most ' + string(variables.most) + ' replicas'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few, validationActions: [Deny], paramRef: {name: limits, namespace: default, parameterNotFoundAction: Deny}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: limits}
data: {most: "3"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.sea.example.com}
spec:
  group: sea.example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, listKind: BoatList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {oars: {type: integer}}
            x-kubernetes-validations: [{rule: "self.oars % 2 == 0", message: oars come in pairs}, {rule: "self.oars >= oldSelf.oars", message: none may be lost}]
`

// TestExpressions has policies and the rules of a custom kind refuse what kubectl does, at every peer.
func TestExpressions(t *testing.T) {
	c := startLab(t, 3)
	apply(t, expressions)
	said := func(want string, args ...string) {
		t.Helper()
		for _, peer := range append(c.others(master(t)), master(t)) {
			within(t, 10*time.Second, fmt.Sprintf("kubectl %s at %s, want %q", strings.Join(args, " "), peer, want), func(ctx context.Context) error {
				out, err := tryKubectl(ctx, append([]string{"--context", peer}, args...)...)
				if want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
					return nil
				}
				return fmt.Errorf("%v: %s", err, out)
			})
		}
	}
	shoal(t, "create", "ns", "other")
	const image = "--image=shoal.local/probe:1"
	said("ValidatingAdmissionPolicy 'few' with binding 'few' denied request: at most 3 replicas", "create", "deployment", "many", image, "--replicas=4", "--dry-run=server")
	said("", "create", "deployment", "few", image, "--replicas=3", "--dry-run=server")
	said("at most 3 replicas", "-n", "other", "create", "deployment", "many", image, "--replicas=4", "--dry-run=server")
	shoal(t, "patch", "configmap", "limits", "--type", "merge", "-p", `{"data":{"most":"5"}}`)
	said("", "create", "deployment", "many", image, "--replicas=4", "--dry-run=server")

	file := filepath.Join(t.TempDir(), "boat.yaml")
	row := func(ctx context.Context, oars int) error {
		text := fmt.Sprintf("apiVersion: sea.example.com/v1\nkind: Boat\nmetadata: {name: b}\nspec: {oars: %d}\n", oars)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := tryKubectl(ctx, "apply", "-f", file)
		return err
	}
	within(t, 10*time.Second, "boats are served", func(ctx context.Context) error { return row(ctx, 4) })
	for oars, want := range map[int]string{5: "oars come in pairs", 2: "none may be lost"} {
		if err := row(t.Context(), oars); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d oars: %v, want %q", oars, err, want)
		}
	}
	if err := row(t.Context(), 6); err != nil {
		t.Error(err)
	}
}
