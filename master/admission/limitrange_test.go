package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
	"shoal/internal/client"
)

func parsed[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestLimitRanges follows "Limit Ranges" in Kubernetes' documentation.
func TestLimitRanges(t *testing.T) {
	for _, c := range []struct {
		name, limits, pod string
		refused           string
		want              string // the pod's spec and annotations
	}{
		{name: "nothing is limited", limits: `[]`, pod: `{containers: [{name: a}]}`, want: `spec: {containers: [{name: a}]}`},
		{
			name: "defaults", limits: `[{type: Container, default: {cpu: 2}, defaultRequest: {cpu: 1, memory: 1Gi}}]`,
			pod: `{containers: [{name: a}, {name: b, resources: {requests: {cpu: 500m}}}], initContainers: [{name: i, resources: {limits: {cpu: 3}}}]}`,
			want: `
metadata:
  annotations:
    kubernetes.io/limit-ranger: "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; memory request for container b; cpu limit for container b; cpu, memory request for init container i"
spec:
  containers:
  - {name: a, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2}}}
  - {name: b, resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 2}}}
  initContainers: [{name: i, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 3}}}]`,
		},
		{name: "too little", limits: `[{type: Container, min: {cpu: 100m}}]`, pod: `{containers: [{name: a, resources: {requests: {cpu: 50m}}}]}`, refused: `pods "p" is forbidden: minimum cpu usage per Container is 100m, but request is 50m`},
		{name: "nothing", limits: `[{type: Container, min: {cpu: 100m}}]`, pod: `{containers: [{name: a}]}`, refused: `minimum cpu usage per Container is 100m.  No request is specified`},
		{name: "too little of a limit", limits: `[{type: Container, min: {cpu: 100m}}]`, pod: `{containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 90m}}}]}`, refused: `minimum cpu usage per Container is 100m, but limit is 90m`},
		{name: "too much", limits: `[{type: Container, max: {memory: 1Gi}}]`, pod: `{containers: [{name: a, resources: {limits: {memory: 2Gi}}}]}`, refused: `maximum memory usage per Container is 1Gi, but limit is 2Gi`},
		{name: "too much asked for", limits: `[{type: Container, max: {memory: 1Gi}}]`, pod: `{containers: [{name: a, resources: {limits: {memory: 1Gi}, requests: {memory: 2Gi}}}]}`, refused: `maximum memory usage per Container is 1Gi, but request is 2Gi`},
		{name: "without a bound", limits: `[{type: Container, max: {memory: 1Gi}}]`, pod: `{containers: [{name: a}]}`, refused: `maximum memory usage per Container is 1Gi.  No limit is specified`},
		{
			name: "several at once", limits: `[{type: Container, max: {memory: 1Gi}, min: {cpu: 1}}]`, pod: `{containers: [{name: a, resources: {requests: {cpu: 1m}, limits: {memory: 2Gi}}}]}`,
			refused: `pods "p" is forbidden: [minimum cpu usage per Container is 1, but request is 1m, maximum memory usage per Container is 1Gi, but limit is 2Gi]`,
		},
		{name: "a ratio", limits: `[{type: Container, maxLimitRequestRatio: {cpu: 2}}]`, pod: `{containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 300m}}}]}`, refused: `cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000`},
		{name: "no ratio", limits: `[{type: Container, maxLimitRequestRatio: {cpu: 2}}]`, pod: `{containers: [{name: a}]}`, refused: `cpu max limit to request ratio per Container is 2, but no request is specified or request is 0`},
		{name: "half a ratio", limits: `[{type: Container, maxLimitRequestRatio: {cpu: 2}}]`, pod: `{containers: [{name: a, resources: {requests: {cpu: 1}}}]}`, refused: `but no limit is specified or limit is 0`},
		{name: "init containers count", limits: `[{type: Container, max: {memory: 1Gi}}]`, pod: `{containers: [{name: a, resources: {limits: {memory: 1Gi}}}], initContainers: [{name: i, resources: {limits: {memory: 2Gi}}}]}`, refused: `but limit is 2Gi`},
		{name: "a pod together", limits: `[{type: Pod, max: {cpu: 1}}]`, pod: `{containers: [{name: a, resources: {limits: {cpu: 600m}}}, {name: b, resources: {limits: {cpu: 600m}}}]}`, refused: `maximum cpu usage per Pod is 1, but limit is 1200m`},
	} {
		t.Run(c.name, func(t *testing.T) {
			shelf := newShelf()
			shelf.put(api.LimitRanges, parsed[corev1.LimitRange](t, "metadata: {namespace: default, name: l}\nspec: {limits: "+c.limits+"}"))
			r := podRequest("default", parsed[corev1.Pod](t, "spec: "+c.pod).Spec)
			chain := Chain{limitDefaults{shelf}, limitBounds{shelf}}
			for range 2 { // the second time changes nothing
				err := chain.Admit(t.Context(), r)
				if c.refused != "" {
					if err == nil || !strings.Contains(err.Error(), c.refused) {
						t.Errorf("got %v, want %s", err, c.refused)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := parsed[corev1.Pod](t, c.want)
				got := &corev1.Pod{Spec: r.Object.(*corev1.Pod).Spec}
				got.Annotations = r.Object.GetAnnotations()
				if a, b := text(t, got), text(t, want); a != b {
					t.Errorf("got\n%s\nwant\n%s", a, b)
				}
			}
		})
	}
}

func text(t *testing.T, o any) string {
	t.Helper()
	b, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLimitRangesOfClaims(t *testing.T) {
	shelf := newShelf()
	shelf.put(api.LimitRanges, parsed[corev1.LimitRange](t, `
metadata: {namespace: default, name: l}
spec: {limits: [{type: PersistentVolumeClaim, min: {storage: 1Gi}, max: {storage: 5Gi}}]}`))
	for size, refused := range map[string]string{
		"1Gi": "", "5Gi": "", "512Mi": "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi",
		"6Gi": "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi",
	} {
		for _, op := range []Operation{Create, Update} {
			claim := parsed[corev1.PersistentVolumeClaim](t, "metadata: {namespace: default, name: c}\nspec: {resources: {requests: {storage: "+size+"}}}")
			err := limitBounds{shelf}.Admit(t.Context(), &Request{Operation: op, Kind: api.PersistentVolumeClaims, Key: client.KeyOf(claim), Object: claim})
			if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) {
				t.Errorf("%s of %s: %v, want %q", op, size, err, refused)
			}
		}
	}
}
