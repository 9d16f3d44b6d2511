package oracle

import (
	"regexp"
	"slices"
)

// rule explains differences that come up in many cases.
type rule struct {
	what *regexp.Regexp
	want *regexp.Regexp // the recorded value as JSON
	why  string
}

func in(what, want, why string) rule {
	return rule{regexp.MustCompile(what), regexp.MustCompile(want), why}
}

// rules are about fields. What is said of versions is what the newest Kubernetes does; the answers are those of 1.21.
var rules = []rule{
	in(`\.columnDefinitions\[\d+\]\.description$`, ``, "the descriptions of columns are those of today's API"),
	in(`\.columnDefinitions\[3\]\.type$`, `^"integer"$`, restarts),
	in(`\.rows\[\d+\]\.cells\[3\]$`, `^\d+$`, restarts),
	in(`\.matchLabels\.controller-uid$`, ``, "1.27: jobs select by batch.kubernetes.io/controller-uid"),
	in(`\.singularName$`, `^""$`, "1.27: discovery tells the singular names"),
	in(`\.storageVersionHash$`, ``, "the stored version is another, and so is its hash"),
}

const (
	restarts  = "1.22: RESTARTS is text and says when the last one was"
	alive     = "controllers run here, and the cluster has nodes"
	groupGoes = "a definition may go a moment later, and its group with it"
)

// What Shoal does otherwise than any Kubernetes, for now or on purpose.
const (
	explained = "who may do what is not explained, and everybody's rules are in fewer roles"
	managers  = "managedFields are kept only for objects that were applied once; before, a field belongs to before-first-apply"
	podCIDR   = "the podCIDR of a node comes from the Master and cannot be set"
	quotas    = "a quota counts what there is, from the moment it is made, whatever its status was told by hand"
	wildcard  = "a type with a wildcard is taken"
)

var own = []string{explained, managers, podCIDR, quotas, wildcard}

// Own reports whether a reason is Shoal's own, and not a newer Kubernetes or another cluster.
func Own(why string) bool { return slices.Contains(own, why) }

var racy = []string{alive, groupGoes}

// cases are single ones, by the reason for their difference.
var cases = []struct {
	why string
	ids []string
}{
	{"a mistake of the client is a 400 or 422, not a 500", []string{
		"apply/bad-type", "apply/dep-dup-key", "apply/unknown-field", "apply/wrong-kind", "immutable-pod/rv-bad", "invalid-configmap/meta-rv-set",
		"invalid-pod/meta-rv-set", "list-basic/get-rv-bad", "list-basic/rv-bad", "patch/merge-array", "patch/merge-empty", "patch/merge-garbage",
		"patch/strat-nokey", "patch/strat-patch-unknown", "pod-subresources/bind-empty-target", "pod-subresources/bind-kind", "update/rv-bad",
		"watch-cm/w-rv-bad", "auth/impersonate-nouser",
	}},
	{"versions of an API that are gone since", []string{
		"default-hpa2/behavior", "discovery//apis/apiextensions.k8s.io", "discovery//apis/autoscaling", "discovery//apis/autoscaling/v2beta1",
		"discovery//apis/autoscaling/v2beta2", "discovery//apis/batch", "discovery//apis/batch/v1beta1", "discovery//apis/coordination.k8s.io",
		"discovery//apis/discovery.k8s.io", "discovery//apis/policy", "discovery//apis/policy/v1beta1", "discovery//apis/rbac.authorization.k8s.io",
		"discovery//apis/storage.k8s.io", "invalid-hpa2/policy", "invalid-hpa2/target-both", "invalid-hpa2/target-type", "invalid-hpa2/type",
		"table-hpa2/create", "table-hpa2/table-get", "table-hpa2/table-list", "table-hpa2/table-list-empty", "table-workloads/hpa-as-v2",
		"table-workloads/hpa-table-v2", "unknown/GET /apis/batch/v1beta1", "unknown/GET /apis/discovery.k8s.io/v1beta1", "unknown/GET /apis/policy/v1beta1",
	}},
	{"groups that are gone since, or that are not served: apiregistration, flowcontrol and k3s's own", []string{
		"auth/sa-apis", "discovery//apis/apiregistration.k8s.io/v1", "discovery//apis/flowcontrol.apiserver.k8s.io/v1beta1",
		"discovery/apis application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
		"discovery/v1 application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io,application/json",
		"discovery/v1 application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "unknown/GET /api/v1/", "unknown/GET /apis/", "unknown/GET /foo",
		"unknown/GET /healthz/nope", "unknown/GET /readyz/nope", "unknown/GET /swagger.json",
	}},
	{"aggregated discovery is newer", []string{
		"discovery/apis application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io,application/json",
	}},
	{"columns that were added, moved or say more since", []string{
		"table-hpa1/table-get", "table-hpa1/table-list", "table-persistentvolumeclaim/table-get", "table-persistentvolumeclaim/table-list",
		"table-persistentvolumeclaim/table-list-empty", "table-priorityclass/table-get", "table-priorityclass/table-list-empty",
		"table-workloads/cj-table", "table-workloads/hpa-table", "table-workloads/job-table", "table-workloads/job-table-done",
		"table-workloads/job2-table", "table-workloads/pv-table", "table-workloads/pvc-table", "table-workloads/quota-table",
	}},
	{"a list from the cache had no order", []string{
		"table-pod-states/list-all", "table-pod-states/list-phase", "table-pod-states/list-phase-ne", "table-pod-states/list-restartpolicy",
		"table-service-kinds/list",
	}},
	{"fields that were dropped then and are checked now: loadBalancerClass, minReadySeconds, completionMode, fieldValidation", []string{
		"immutable-job/mode", "invalid-job/mode", "invalid-service/lbclass-type", "invalid-statefulset/minready", "invalid-wire/fieldvalidation-Foo",
	}},
	{"the names and pod templates of StatefulSets are checked since", []string{
		"invalid-statefulset/container-missing", "invalid-statefulset/meta-name-64", "invalid-statefulset/meta-name-dot",
		"invalid-statefulset/spec-missing", "invalid-statefulset/template-missing",
	}},
	{"the causes name the field more exactly, or no longer twice", []string{
		"crd/invalid-float", "crd/invalid-item-type", "crd/invalid-many", "crd/invalid-maxitems", "crd/invalid-spec-string", "crd/invalid-type",
		"crd/status-bad", "immutable-daemonset/selector", "immutable-job/selector", "immutable-persistentvolumeclaim/storage-down",
		"immutable-pod/deletiontimestamp", "immutable-pod/label-bad", "immutable-pod/uid", "immutable-priorityclass/value", "immutable-replicaset/selector",
		"immutable-replicationcontroller/selector", "immutable-statefulset/claims", "immutable-statefulset/pmp", "immutable-statefulset/selector",
		"immutable-statefulset/servicename", "invalid-customresourcedefinition/no-storage", "invalid-customresourcedefinition/type-missing",
		"invalid-customresourcedefinition/version-name", "invalid-daemonset/maxunavail-0", "invalid-hpa1/max-missing", "invalid-job/meta-name-64",
		"invalid-pod/meta-ownerref-empty", "status-others/main-put-ignores-status-Job",
	}},
	{"since 1.23 a deletion of a Service answers with the Service, and collections of them can be deleted", []string{"list-basic/deletecollection-services", "taken/free"}},
	{"since 1.24 a Service can be replaced without its addresses and resourceVersion", []string{"status-others/main-put-ignores-status-Service", "update/svc-put-norv"}},
	{"since 1.25 only a Service of type LoadBalancer has ingress", []string{"status-others/get-Service", "status-others/put-Service", "status-others/svc-bad-ip"}},
	{"since 1.25 a claim without a class may be given one", []string{"immutable-persistentvolumeclaim/class"}},
	{"since 1.27 a Job is complete only with SuccessCriteriaMet", []string{"table-workloads/job-done"}},
	{podCIDR, []string{"immutable-node/podcidr"}},
	{"newer servers select by this field", []string{
		"fieldselectors/Pod spec.hostNetwork=false", "fieldselectors/Service spec.clusterIP=None", "fieldselectors/Service spec.type=ClusterIP",
	}},
	{"what the library makes of this directive changed since", []string{"patch/strat-delete-primitive", "patch/strat-replace-map"}},
	{managers, []string{
		"apply/pod-status-managed", "apply/pod-status-managed2", "apply/post-default-manager", "apply/post-managed", "apply/put-managed",
	}},
	{"since 1.22 whoever scales through the subresource owns the replicas", []string{"apply/dep-final", "apply/status"}},
	{"ephemeral containers are served since 1.25", []string{"pod-subresources/ephemeral"}},
	{"pods have a generation of their own since 1.33", []string{"default-pod/client-set-meta"}},
	{quotas, []string{"quota/used", "update/pod", "update/pod-exists", "update/pod-put-minimal"}}, // nobody counted where it was recorded
	{alive, []string{
		"fieldselectors/Node spec.unschedulable=true", "immutable-replicationcontroller/after", "immutable-replicationcontroller/replicas",
		"invalid-wire/accept application/yaml",
		"table-controllerrevision/table-get", "table-controllerrevision/table-list", // whose owner is not there
	}},
	{"kine counts what remains of a list wrongly", []string{"list-basic/continue2", "list-basic/limit2"}},
	{"history reaches further back", []string{"watch-cm/w-rv-1"}},
	{"addresses, version, issuer and keys are this cluster's", []string{
		"auth/review-ok", "auth/sa-api", "auth/sa-version", "auth/token", "auth/token-empty", "discovery//api",
		"unknown/GET /.well-known/openid-configuration",
	}},
	{"the error says more", []string{"auth/review-audience", "auth/review-bad"}},
	{"anybody may ask for health and version, as with Kubernetes' default settings", []string{"auth/anon-healthz", "auth/anon-version"}},
	{explained, []string{"auth/rules-admin", "auth/rules-sa", "auth/sar-sa", "auth/ssar-sa"}},
	{"eviction in policy/v1 is newer, and a failed precondition takes no disruption from the budget", []string{
		"pod-subresources/evict", "pod-subresources/evict-policy-v1", "pod-subresources/evicted",
	}},
	{wildcard, []string{"invalid-wire/accept application/*"}},
	{"the routes of go-restful and Go's mux answer otherwise", []string{"unknown/GET /api/v1/namespaces//pods", "unknown/GET /logs"}},
	{"the resources of a discovery document are in order of their names", []string{"crd/discovery"}},
	{"a document in YAML has its apiVersion", []string{"discovery/v1 application/yaml"}},
	{groupGoes, []string{"crd/gone"}},
}

var reasons = func() map[string]string {
	m := map[string]string{}
	for _, c := range cases {
		for _, id := range c.ids {
			m[id] = c.why
		}
	}
	return m
}()

// Explain returns why a difference is meant to be, or empty if it is not.
func Explain(c *Case, d Difference) string {
	for _, r := range rules {
		if r.what.MatchString(d.What) && r.want.MatchString(key(d.Want)) {
			return r.why
		}
	}
	return reasons[c.ID]
}

// Reason returns why a case differs in ways of its own; empty if it does not.
func Reason(c *Case) string { return reasons[c.ID] }

// Racy reports whether a listed case agrees at times.
func Racy(c *Case) bool { return slices.Contains(racy, reasons[c.ID]) }
