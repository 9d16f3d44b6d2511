package quota

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
)

// read makes an object of YAML.
func read[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func written(l corev1.ResourceList) map[string]string {
	out := map[string]string{}
	for name, q := range l {
		out[string(name)] = q.String()
	}
	return out
}

// The names and sums are those of "Resource Quotas" in Kubernetes' documentation.
func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name string
		kind *api.Kind
		o    api.Object
		want map[string]string
	}{
		{
			"a pod asks for its containers together, or for its most demanding moment, and its overhead", api.Pods, read[corev1.Pod](t, `
spec:
  overhead: {cpu: 10m}
  initContainers:
  - {name: i, resources: {requests: {memory: 1Gi}}}
  - {name: s, restartPolicy: Always, resources: {requests: {cpu: 5m}}}
  containers:
  - {name: a, resources: {requests: {cpu: 100m, memory: 64Mi, example.com/gpu: 2}, limits: {cpu: 200m, ephemeral-storage: 1Gi, example.com/gpu: 2}}}
  - {name: b, resources: {requests: {cpu: 50m, memory: 64Mi, hugepages-2Mi: 4Mi, ephemeral-storage: 1Mi}}}
`), map[string]string{
				"count/pods": "1", "pods": "1", "cpu": "165m", "requests.cpu": "165m", "memory": "1Gi", "requests.memory": "1Gi",
				"requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi",
				"ephemeral-storage": "1Mi", "requests.ephemeral-storage": "1Mi", "limits.cpu": "210m", "limits.ephemeral-storage": "1Gi",
			},
		},
		{"one that has ended is an object and no more", api.Pods, read[corev1.Pod](t, `
spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}
status: {phase: Failed}`), map[string]string{"count/pods": "1"}},
		{"a service", api.Services, read[corev1.Service](t, `spec: {ports: [{port: 80}]}`), map[string]string{
			"count/services": "1", "services": "1", "services.nodeports": "0",
		}},
		{"node ports", api.Services, read[corev1.Service](t, `spec: {type: NodePort, ports: [{port: 80}, {port: 81}]}`), map[string]string{
			"count/services": "1", "services": "1", "services.nodeports": "2",
		}},
		{"a load balancer has node ports, too", api.Services, read[corev1.Service](t, `spec: {type: LoadBalancer, ports: [{port: 80}]}`), map[string]string{
			"count/services": "1", "services": "1", "services.nodeports": "1", "services.loadbalancers": "1",
		}},
		{"unless it wants none", api.Services, read[corev1.Service](t, `spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}, {port: 81, nodePort: 30000}]}`), map[string]string{
			"count/services": "1", "services": "1", "services.nodeports": "1", "services.loadbalancers": "1",
		}},
		{"a claim counts for its class", api.PersistentVolumeClaims, read[corev1.PersistentVolumeClaim](t, `spec: {storageClassName: gold, resources: {requests: {storage: 2Gi}}}`), map[string]string{
			"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2Gi",
			"gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1", "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
		}},
		{"without one", api.PersistentVolumeClaims, read[corev1.PersistentVolumeClaim](t, `spec: {resources: {requests: {storage: 2Gi}}}`), map[string]string{
			"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2Gi",
		}},
		{"what has a name of old", api.Secrets, &corev1.Secret{}, map[string]string{"count/secrets": "1", "secrets": "1"}},
		{"what has none", api.Deployments, api.Deployments.New(), map[string]string{"count/deployments.apps": "1"}},
	} {
		if got := written(Usage(test.kind, test.o)); !maps.Equal(got, test.want) {
			t.Errorf("%s:\n%v, want\n%v", test.name, got, test.want)
		}
	}
}

func TestScopes(t *testing.T) {
	pod := func(spec string) api.Object { return read[corev1.Pod](t, "spec: "+spec) }
	objects := map[string]api.Object{
		"plain":    pod(`{containers: [{name: a, resources: {requests: {cpu: 1}}}]}`),
		"idle":     pod(`{containers: [{name: a}]}`),
		"short":    pod(`{activeDeadlineSeconds: 5, containers: [{name: a}]}`),
		"urgent":   pod(`{priorityClassName: high, containers: [{name: a, resources: {limits: {memory: 1}}}]}`),
		"across":   pod(`{containers: [{name: a}], affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, namespaces: [b]}]}}}`),
		"near":     pod(`{containers: [{name: a}], affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: a}}]}}}`),
		"settings": &corev1.ConfigMap{},
		"claim":    read[corev1.PersistentVolumeClaim](t, `spec: {volumeAttributesClassName: fast}`),
	}
	for spec, want := range map[string][]string{
		`{}`:                                     {"across", "claim", "idle", "near", "plain", "settings", "short", "urgent"},
		`{scopes: [Terminating]}`:                {"short"},
		`{scopes: [BestEffort]}`:                 {"across", "idle", "near", "short"},
		`{scopes: [NotBestEffort]}`:              {"plain", "urgent"},
		`{scopes: [NotTerminating, BestEffort]}`: {"across", "idle", "near"},
		`{scopes: [PriorityClass]}`:              {"urgent"},
		`{scopes: [CrossNamespacePodAffinity]}`:  {"across"},
		`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high, low]}]}}`:       {"urgent"},
		`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [low]}]}}`:             {},
		`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: NotIn, values: [low]}]}}`:          {"across", "idle", "near", "plain", "short", "urgent"},
		`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: DoesNotExist}]}}`:                  {"across", "idle", "near", "plain", "short"},
		`{scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: In, values: [fast]}]}}`:    {"claim"},
		`{scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: NotIn, values: [fast]}]}}`: {},
		`{scopes: [BestEffort], scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: Exists}]}}`:    {"short"},
	} {
		q := read[corev1.ResourceQuota](t, "spec: "+spec)
		got := []string{}
		for name, o := range objects {
			if matches(q, o) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s selects %v, want %v", spec, got, want)
		}
	}
}

func TestWhatMustBeGiven(t *testing.T) {
	hard := read[corev1.ResourceQuota](t, `spec: {hard: {requests.cpu: 1, limits.memory: 1Gi, pods: 3, requests.ephemeral-storage: 1Gi}}`).Spec.Hard
	for spec, want := range map[string]string{
		`{containers: [{name: a}, {name: b, resources: {requests: {cpu: 1}}}], initContainers: [{name: i}]}`: "limits.memory for: i,a,b; requests.cpu for: i,a",
		`{containers: [{name: a, resources: {requests: {cpu: 1}, limits: {memory: 1}}}]}`:                    "",
		`{containers: [{name: a}], resources: {requests: {cpu: 1}, limits: {memory: 1}}}`:                    "",
		`{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1}}}]}`:                                "requests.cpu for: a",
	} {
		if got := missing(hard, read[corev1.Pod](t, "spec: "+spec)); got != want {
			t.Errorf("%s lacks %q, want %q", spec, got, want)
		}
	}
}
