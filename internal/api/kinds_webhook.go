package api

import (
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rows of admissionregistration.k8s.io. Nobody is called yet.
var (
	MutatingWebhookConfigurations   = row[admissionregistrationv1.MutatingWebhookConfiguration, admissionregistrationv1.MutatingWebhookConfigurationList](admissionregistrationv1.SchemeGroupVersion, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations").with(mutatingWebhookRow)
	ValidatingWebhookConfigurations = row[admissionregistrationv1.ValidatingWebhookConfiguration, admissionregistrationv1.ValidatingWebhookConfigurationList](admissionregistrationv1.SchemeGroupVersion, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations").with(validatingWebhookRow)
)

func mutatingWebhookRow(k *Kind) {
	k.Namespaced, k.Generation = false, true
	k.Categories = []string{"api-extensions"}
	k.Default = on(func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			unset(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			defaultWebhook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
		}
	})
	k.PrepareCreate = on(func(c *admissionregistrationv1.MutatingWebhookConfiguration) { c.Generation = 1 })
	k.Validate = check(func(c *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
		return validateWebhooks(mutatingHooks(c), nil)
	})
	k.ValidateUpdate = compare(func(updated, old *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
		return validateWebhooks(mutatingHooks(updated), mutatingHooks(old))
	})
	k.Columns = webhookColumns()
	k.Cells = cells(func(c *admissionregistrationv1.MutatingWebhookConfiguration, now time.Time) []any {
		return []any{c.Name, int64(len(c.Webhooks)), since(c.CreationTimestamp, now)}
	})
}

func validatingWebhookRow(k *Kind) {
	k.Namespaced, k.Generation = false, true
	k.Categories = []string{"api-extensions"}
	k.Default = on(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
		for i := range c.Webhooks {
			w := &c.Webhooks[i]
			defaultWebhook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
		}
	})
	k.PrepareCreate = on(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) { c.Generation = 1 })
	k.Validate = check(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
		return validateWebhooks(validatingHooks(c), nil)
	})
	k.ValidateUpdate = compare(func(updated, old *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
		return validateWebhooks(validatingHooks(updated), validatingHooks(old))
	})
	k.Columns = webhookColumns()
	k.Cells = cells(func(c *admissionregistrationv1.ValidatingWebhookConfiguration, now time.Time) []any {
		return []any{c.Name, int64(len(c.Webhooks)), since(c.CreationTimestamp, now)}
	})
}

// mutatingHooks shows mutating webhooks as validating ones, which have all their fields but one.
func mutatingHooks(c *admissionregistrationv1.MutatingWebhookConfiguration) []webhook {
	var all []webhook
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		all = append(all, webhook{
			ValidatingWebhook: admissionregistrationv1.ValidatingWebhook{
				Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
				NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects,
				TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
			},
			reinvocation: w.ReinvocationPolicy,
		})
	}
	return all
}

func validatingHooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) []webhook {
	var all []webhook
	for i := range c.Webhooks {
		all = append(all, webhook{ValidatingWebhook: c.Webhooks[i]})
	}
	return all
}

func defaultWebhook(c *admissionregistrationv1.WebhookClientConfig, rules []admissionregistrationv1.RuleWithOperations,
	failure **admissionregistrationv1.FailurePolicyType, match **admissionregistrationv1.MatchPolicyType,
	namespaces, objects **metav1.LabelSelector, timeout **int32,
) {
	if c.Service != nil {
		unset(&c.Service.Port, 443)
	}
	for i := range rules {
		unset(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
	unset(failure, admissionregistrationv1.Fail)
	unset(match, admissionregistrationv1.Equivalent)
	unset(namespaces, metav1.LabelSelector{})
	unset(objects, metav1.LabelSelector{})
	unset(timeout, 10)
}

func webhookColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), number("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"), ageColumn(),
	}
}
