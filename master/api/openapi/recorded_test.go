package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// later is where the record, of Kubernetes 1.26, differs from the sources of today: fields that went, and what was found out
// about others since.
var later = []string{
	"io.k8s.api.apps.v1.ControllerRevision.data: required is true",
	"io.k8s.api.apps.v1.ControllerRevision.revision: required is false",
	"io.k8s.api.apps.v1.DaemonSet.spec: required is true",
	"io.k8s.api.apps.v1.DaemonSetCondition.status: required is false",
	"io.k8s.api.apps.v1.DaemonSetCondition.type: required is false",
	"io.k8s.api.apps.v1.Deployment.spec: required is true",
	"io.k8s.api.apps.v1.DeploymentCondition.status: required is false",
	"io.k8s.api.apps.v1.DeploymentCondition.type: required is false",
	"io.k8s.api.apps.v1.ReplicaSet.spec: required is true",
	"io.k8s.api.apps.v1.ReplicaSetCondition.status: required is false",
	"io.k8s.api.apps.v1.ReplicaSetCondition.type: required is false",
	"io.k8s.api.apps.v1.StatefulSet.spec: required is true",
	"io.k8s.api.apps.v1.StatefulSetCondition.status: required is false",
	"io.k8s.api.apps.v1.StatefulSetCondition.type: required is false",
	"io.k8s.api.apps.v1.StatefulSetSpec.serviceName: required is false",
	"io.k8s.api.batch.v1.CronJob.spec: required is true",
	"io.k8s.api.batch.v1.PodFailurePolicyOnPodConditionsPattern.status: required is false",
	"io.k8s.api.batch.v1.PodFailurePolicyRule.onPodConditions: required is false",
	"io.k8s.api.core.v1.HostAlias.ip: required is true",
	"io.k8s.api.core.v1.PersistentVolumeClaimSpec.resources: other type",
	"io.k8s.api.core.v1.PersistentVolumeClaimStatus.resizeStatus: gone",
	"io.k8s.api.core.v1.PodIP.ip: required is true",
	"io.k8s.api.core.v1.PodResourceClaim.source: gone",
	"io.k8s.api.discovery.v1.EndpointSlice.endpoints: required is false",
	"io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement.key: other type",
}

// TestSchemasAgreeWithThoseOfKubernetes compares with the documents of a Kubernetes API server that client-go has for its tests.
func TestSchemasAgreeWithThoseOfKubernetes(t *testing.T) {
	recorded, err := openapitest.NewEmbeddedFileClient().Paths()
	if err != nil {
		t.Fatal(err)
	}
	o := served()
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/batch/v1", "apis/discovery.k8s.io/v1"} {
		b, err := recorded[path].Schema("application/json")
		if err != nil {
			t.Fatal(err)
		}
		var want, got spec3.OpenAPI
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body(t, o, "v3/"+path, formJSON), &got); err != nil {
			t.Fatal(err)
		}
		for name, s := range got.Components.Schemas {
			if w := want.Components.Schemas[name]; w != nil {
				compareSchemas(t, name, w, s)
			}
		}
		comparePaths(t, path, &want, &got)
	}
}

func compareSchemas(t *testing.T, name string, want, got *spec.Schema) {
	t.Helper()
	if !slices.Equal(want.Type, got.Type) || want.Format != got.Format || len(want.OneOf) != len(got.OneOf) {
		t.Errorf("%s is %v %s, in Kubernetes %v %s", name, got.Type, got.Format, want.Type, want.Format)
	}
	for field, w := range want.Properties {
		g, ok := got.Properties[field]
		if !ok {
			if known := name + "." + field + ": gone"; !slices.Contains(later, known) {
				t.Error(known)
			}
			continue
		}
		if a, b := shape(&g), shape(&w); a != b && !slices.Contains(later, name+"."+field+": other type") {
			t.Errorf("%s.%s is %s, in Kubernetes %s", name, field, a, b)
		}
		if g.Description == "" && w.Description != "" {
			t.Errorf("%s.%s is described as %q", name, field, g.Description)
		}
		if r := slices.Contains(got.Required, field); r != slices.Contains(want.Required, field) {
			if known := fmt.Sprintf("%s.%s: required is %v", name, field, r); !slices.Contains(later, known) {
				t.Error(known)
			}
		}
	}
}

// shape is all of a field's schema but words, on which versions differ.
func shape(s *spec.Schema) string {
	c := *s
	c.Description, c.Default, c.Enum = "", nil, nil
	c.Extensions = maps.Clone(c.Extensions)
	for _, x := range []string{"x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"} {
		delete(c.Extensions, x) // newer than the record; compared with client-go instead
	}
	for _, sub := range []*spec.SchemaOrArray{c.Items} {
		if sub != nil && sub.Schema != nil {
			sub.Schema.Default, sub.Schema.Enum = nil, nil
			unwrap(sub.Schema)
		}
	}
	if c.AdditionalProperties != nil && c.AdditionalProperties.Schema != nil {
		c.AdditionalProperties.Schema.Default = nil
		unwrap(c.AdditionalProperties.Schema)
	}
	unwrap(&c)
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// unwrap takes a lone reference out of an allOf.
func unwrap(s *spec.Schema) {
	if len(s.AllOf) == 1 {
		s.Ref, s.AllOf = s.AllOf[0].Ref, nil
	}
}

func comparePaths(t *testing.T, version string, want, got *spec3.OpenAPI) {
	t.Helper()
	for url, g := range got.Paths.Paths {
		w := want.Paths.Paths[url]
		if w == nil {
			t.Errorf("%s: no path %s in Kubernetes", version, url)
			continue
		}
		for _, m := range []struct {
			method    string
			want, got *spec3.Operation
		}{
			{"get", w.Get, g.Get},
			{"put", w.Put, g.Put},
			{"post", w.Post, g.Post},
			{"delete", w.Delete, g.Delete},
			{"patch", w.Patch, g.Patch},
		} {
			switch {
			case m.want == nil && m.got == nil:
			case m.want == nil || m.got == nil:
				t.Errorf("%s %s: here %v, in Kubernetes %v", m.method, url, m.got != nil, m.want != nil)
			default:
				compareOperations(t, m.method+" "+url, w.Parameters, m.want, g.Parameters, m.got)
			}
		}
	}
}

func compareOperations(t *testing.T, what string, wantAll []*spec3.Parameter, want *spec3.Operation, gotAll []*spec3.Parameter, got *spec3.Operation) {
	t.Helper()
	if got.OperationId != want.OperationId {
		t.Errorf("%s is called %s, in Kubernetes %s", what, got.OperationId, want.OperationId)
	}
	for _, x := range []string{"x-kubernetes-action", "x-kubernetes-group-version-kind"} {
		a, _ := json.Marshal(got.Extensions[x])
		b, _ := json.Marshal(want.Extensions[x])
		if string(a) != string(b) {
			t.Errorf("%s: %s is %s, in Kubernetes %s", what, x, a, b)
		}
	}
	names := func(all []*spec3.Parameter, o *spec3.Operation) string {
		var out []string
		for _, p := range slices.Concat(all, o.Parameters) {
			if p.Name != "sendInitialEvents" {
				out = append(out, p.In+" "+p.Name+" "+strings.Join(p.Schema.Type, ""))
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	if a, b := names(gotAll, got), names(wantAll, want); a != b {
		t.Errorf("%s: parameters %s, in Kubernetes %s", what, a, b)
	}
}
