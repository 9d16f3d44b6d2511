package api

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func ptr[T any](v T) *T { return &v }

// fieldsOf lists where errs are, with their types.
func fieldsOf(errs field.ErrorList) string {
	var all []string
	for _, e := range errs {
		all = append(all, string(e.Type)+" "+e.Field)
	}
	return strings.Join(all, ", ")
}

func goodWebhook() admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{
		Name:                    "a.b.com",
		ClientConfig:            admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "ns", Name: "s"}},
		SideEffects:             ptr(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{"CREATE"},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
	}
}

func TestWebhookRules(t *testing.T) {
	type hook = admissionregistrationv1.ValidatingWebhook
	for rule, tc := range map[string]struct {
		change func(*hook)
		want   string
	}{
		"a good one":                     {func(*hook) {}, ""},
		"names have three parts":         {func(w *hook) { w.Name = "a.b" }, "FieldValueInvalid webhooks[0].name"},
		"a name is required":             {func(w *hook) { w.Name = "" }, "FieldValueRequired webhooks[0].name"},
		"side effects are required":      {func(w *hook) { w.SideEffects = nil }, "FieldValueRequired webhooks[0].sideEffects"},
		"side effects that would happen": {func(w *hook) { w.SideEffects = ptr(admissionregistrationv1.SideEffectClassSome) }, "FieldValueNotSupported webhooks[0].sideEffects"},
		"at most 30 seconds":             {func(w *hook) { w.TimeoutSeconds = ptr(int32(31)) }, "FieldValueInvalid webhooks[0].timeoutSeconds"},
		"review versions are required":   {func(w *hook) { w.AdmissionReviewVersions = nil }, "FieldValueRequired webhooks[0].admissionReviewVersions"},
		"a review version we speak":      {func(w *hook) { w.AdmissionReviewVersions = []string{"v7"} }, "FieldValueInvalid webhooks[0].admissionReviewVersions"},
		"review versions once":           {func(w *hook) { w.AdmissionReviewVersions = []string{"v1", "v1"} }, "FieldValueInvalid webhooks[0].admissionReviewVersions[1]"},
		"failure policies":               {func(w *hook) { w.FailurePolicy = ptr(admissionregistrationv1.FailurePolicyType("Hope")) }, "FieldValueNotSupported webhooks[0].failurePolicy"},
		"a URL or a service":             {func(w *hook) { w.ClientConfig.URL = ptr("https://x") }, "FieldValueRequired webhooks[0].clientConfig"},
		"neither":                        {func(w *hook) { w.ClientConfig.Service = nil }, "FieldValueRequired webhooks[0].clientConfig"},
		"only https": {func(w *hook) {
			w.ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: ptr("http://u@host/p?q=1#f")}
		}, "FieldValueInvalid webhooks[0].clientConfig.url, FieldValueInvalid webhooks[0].clientConfig.url, FieldValueInvalid webhooks[0].clientConfig.url, FieldValueInvalid webhooks[0].clientConfig.url"},
		"a service has a name":          {func(w *hook) { w.ClientConfig.Service.Name = "" }, "FieldValueRequired webhooks[0].clientConfig.service.name"},
		"a path begins with a slash":    {func(w *hook) { w.ClientConfig.Service.Path = ptr("x") }, "FieldValueInvalid webhooks[0].clientConfig.service.path"},
		"a path has no empty steps":     {func(w *hook) { w.ClientConfig.Service.Path = ptr("/a//b") }, "FieldValueInvalid webhooks[0].clientConfig.service.path"},
		"ports":                         {func(w *hook) { w.ClientConfig.Service.Port = ptr(int32(0)) }, "FieldValueInvalid webhooks[0].clientConfig.service.port"},
		"operations are required":       {func(w *hook) { w.Rules[0].Operations = nil }, "FieldValueRequired webhooks[0].rules[0].operations"},
		"operations that exist":         {func(w *hook) { w.Rules[0].Operations[0] = "PATCH" }, "FieldValueNotSupported webhooks[0].rules[0].operations[0]"},
		"all operations, and no others": {func(w *hook) { w.Rules[0].Operations = []admissionregistrationv1.OperationType{"*", "CREATE"} }, "FieldValueInvalid webhooks[0].rules[0].operations"},
		"groups are required":           {func(w *hook) { w.Rules[0].APIGroups = nil }, "FieldValueRequired webhooks[0].rules[0].apiGroups"},
		"versions are not empty":        {func(w *hook) { w.Rules[0].APIVersions = []string{""} }, "FieldValueRequired webhooks[0].rules[0].apiVersions[0]"},
		"resources are required":        {func(w *hook) { w.Rules[0].Resources = nil }, "FieldValueRequired webhooks[0].rules[0].resources"},
		"all resources, and no others":  {func(w *hook) { w.Rules[0].Resources = []string{"*", "pods"} }, "FieldValueInvalid webhooks[0].rules[0].resources"},
		"all and all subresources":      {func(w *hook) { w.Rules[0].Resources = []string{"*", "*/*"} }, "FieldValueInvalid webhooks[0].rules[0].resources"},
		"scopes":                        {func(w *hook) { w.Rules[0].Scope = ptr(admissionregistrationv1.ScopeType("World")) }, "FieldValueNotSupported webhooks[0].rules[0].scope"},
		"selectors": {func(w *hook) {
			w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
		}, "FieldValueInvalid webhooks[0].objectSelector.matchExpressions[0].operator"},
		"conditions have expressions": {func(w *hook) { w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "x"}} }, "FieldValueRequired webhooks[0].matchConditions[0].expression"},
		"conditions have their own names": {func(w *hook) {
			w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "x", Expression: "true"}, {Name: "x", Expression: "true"}}
		}, "FieldValueDuplicate webhooks[0].matchConditions[1].name"},
	} {
		c := &admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: []hook{goodWebhook()}}
		tc.change(&c.Webhooks[0])
		ValidatingWebhookConfigurations.Default(c)
		if got := fieldsOf(ValidatingWebhookConfigurations.Validate(c)); got != tc.want {
			t.Errorf("%s: got %s, want %s", rule, got, tc.want)
		}
	}
}

func TestWebhookNamesAreUnique(t *testing.T) {
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: []admissionregistrationv1.ValidatingWebhook{goodWebhook(), goodWebhook()}}
	if got := fieldsOf(ValidatingWebhookConfigurations.Validate(c)); got != "FieldValueDuplicate webhooks[1].name" {
		t.Error(got)
	}
}

func TestWebhookDefaults(t *testing.T) {
	c := &admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: []admissionregistrationv1.MutatingWebhook{{
		ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{}},
		Rules:        make([]admissionregistrationv1.RuleWithOperations, 1),
	}}}
	MutatingWebhookConfigurations.Default(c)
	w := &c.Webhooks[0]
	if *w.ClientConfig.Service.Port != 443 || *w.Rules[0].Scope != "*" || *w.FailurePolicy != "Fail" || *w.MatchPolicy != "Equivalent" ||
		w.NamespaceSelector == nil || w.ObjectSelector == nil || *w.TimeoutSeconds != 10 || *w.ReinvocationPolicy != "Never" {
		t.Errorf("got %+v", w)
	}
}

func TestRuntimeClassRules(t *testing.T) {
	for rule, tc := range map[string]struct {
		class nodev1.RuntimeClass
		want  string
	}{
		"a good one":                {nodev1.RuntimeClass{Handler: "runc"}, ""},
		"a handler is required":     {nodev1.RuntimeClass{}, "FieldValueInvalid handler"},
		"a handler is a label":      {nodev1.RuntimeClass{Handler: "Run C"}, "FieldValueInvalid handler"},
		"overhead is not negative":  {nodev1.RuntimeClass{Handler: "h", Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": resource.MustParse("-1")}}}, "FieldValueInvalid overhead.podFixed[cpu]"},
		"node selectors are labels": {nodev1.RuntimeClass{Handler: "h", Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a b": ""}}}, "FieldValueInvalid scheduling.nodeSelector"},
		"tolerations once":          {nodev1.RuntimeClass{Handler: "h", Scheduling: &nodev1.Scheduling{Tolerations: []corev1.Toleration{{Key: "a", Operator: "Exists"}, {Key: "a", Operator: "Exists"}}}}, "FieldValueDuplicate scheduling.tolerations[1]"},
	} {
		if got := fieldsOf(RuntimeClasses.Validate(&tc.class)); got != tc.want {
			t.Errorf("%s: got %s, want %s", rule, got, tc.want)
		}
	}
	if got := fieldsOf(RuntimeClasses.ValidateUpdate(&nodev1.RuntimeClass{Handler: "b"}, &nodev1.RuntimeClass{Handler: "a"})); got != "FieldValueInvalid handler" {
		t.Errorf("a handler may not change: %s", got)
	}
}

func TestVolumeAttributesClassRules(t *testing.T) {
	good := storagev1.VolumeAttributesClass{DriverName: "csi.example.org", Parameters: map[string]string{"iops": "5"}}
	for rule, tc := range map[string]struct {
		change func(*storagev1.VolumeAttributesClass)
		want   string
	}{
		"a good one":              {func(*storagev1.VolumeAttributesClass) {}, ""},
		"a driver is required":    {func(c *storagev1.VolumeAttributesClass) { c.DriverName = "" }, "FieldValueRequired driverName"},
		"parameters are required": {func(c *storagev1.VolumeAttributesClass) { c.Parameters = nil }, "FieldValueRequired parameters"},
		"parameters have names":   {func(c *storagev1.VolumeAttributesClass) { c.Parameters[""] = "x" }, "FieldValueInvalid parameters"},
	} {
		c := good.DeepCopy()
		tc.change(c)
		if got := fieldsOf(VolumeAttributesClasses.Validate(c)); got != tc.want {
			t.Errorf("%s: got %s, want %s", rule, got, tc.want)
		}
	}
	changed := good.DeepCopy()
	changed.Parameters["iops"] = "6"
	if got := fieldsOf(VolumeAttributesClasses.ValidateUpdate(changed, &good)); got != "FieldValueInvalid parameters" {
		t.Errorf("parameters may not change: %s", got)
	}
}
