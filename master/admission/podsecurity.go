package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"shoal/internal/api"
	"shoal/internal/client"
)

// podSecurity keeps namespaces to the Pod Security Standard that their labels name, by the checks of Kubernetes' own library: pods are refused, and of
// what makes pods is said that they would be. Without labels nothing is refused, and what is below the baseline is said.
type podSecurity struct {
	reader Reader
	checks policy.Evaluator
}

// unlabelled is the policy of a namespace without labels.
var unlabelled = security.Policy{
	Enforce: security.LevelVersion{Level: security.LevelPrivileged, Version: security.LatestVersion()},
	Warn:    security.LevelVersion{Level: security.LevelBaseline, Version: security.LatestVersion()},
	Audit:   security.LevelVersion{Level: security.LevelBaseline, Version: security.LatestVersion()},
}

func newPodSecurity(from Reader) podSecurity {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err) // the library's checks do not agree with the library
	}
	return podSecurity{from, checks}
}

// Admit implements Plugin.
func (p podSecurity) Admit(ctx context.Context, r *Request) error {
	switch {
	case r.Operation == Delete:
		return nil
	case r.Kind == api.Namespaces:
		return p.namespace(ctx, r)
	}
	meta, spec := podOf(r.Object)
	if spec == nil || !p.matters(r) {
		return nil
	}
	o, err := find(ctx, p.reader, api.Namespaces, client.Key{Name: r.Key.Namespace})
	if apierrors.IsNotFound(err) {
		return nil // which is refused elsewhere
	}
	if err != nil {
		return err
	}
	rules, _ := security.PolicyToEvaluate(o.GetLabels(), unlabelled) // a label that makes no sense is as good as the strictest
	if r.Kind == api.Pods {
		if said := p.against(rules.Enforce, meta, spec); said != "" {
			return r.forbidden(fmt.Errorf("violates PodSecurity %q: %s", rules.Enforce.String(), said))
		}
	}
	if r.Warn != nil {
		if said := p.against(rules.Warn, meta, spec); said != "" {
			r.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", rules.Warn.String(), said))
		}
	}
	if r.Note != nil {
		if said := p.against(rules.Audit, meta, spec); said != "" {
			r.Note(security.AuditAnnotationPrefix+security.AuditViolationsAnnotationKey, fmt.Sprintf("would violate PodSecurity %q: %s", rules.Audit.String(), said))
		}
	}
	return nil
}

// matters reports whether a write can make what pods may do any different.
func (podSecurity) matters(r *Request) bool {
	if r.Kind != api.Pods {
		return r.Subresource == ""
	}
	switch r.Subresource {
	case "":
		if r.Operation == Create {
			return true
		}
	case "ephemeralcontainers":
	default:
		return false
	}
	_, is := podOf(r.Object)
	_, was := podOf(r.OldObject)
	images := func(s *corev1.PodSpec) (all []string) {
		for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
			for i := range list {
				all = append(all, list[i].Image)
			}
		}
		for i := range s.EphemeralContainers {
			all = append(all, s.EphemeralContainers[i].Name+" "+s.EphemeralContainers[i].Image)
		}
		return all
	}
	return was == nil || !slices.Equal(images(is), images(was))
}

// against returns how a pod is against the rules, empty when it is not.
func (p podSecurity) against(rules security.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) string {
	result := policy.AggregateCheckResults(p.checks.EvaluatePod(rules, meta, spec))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}

// podOf returns the pod that an object is, or makes; nil when it is about none.
func podOf(o api.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	var t *corev1.PodTemplateSpec
	switch o := o.(type) {
	case *corev1.Pod:
		return &o.ObjectMeta, &o.Spec
	case *corev1.PodTemplate:
		t = &o.Template
	case *corev1.ReplicationController:
		t = o.Spec.Template
	case *appsv1.ReplicaSet:
		t = &o.Spec.Template
	case *appsv1.Deployment:
		t = &o.Spec.Template
	case *appsv1.DaemonSet:
		t = &o.Spec.Template
	case *appsv1.StatefulSet:
		t = &o.Spec.Template
	case *batchv1.Job:
		t = &o.Spec.Template
	case *batchv1.CronJob:
		t = &o.Spec.JobTemplate.Spec.Template
	}
	if t == nil {
		return nil, nil
	}
	return &t.ObjectMeta, &t.Spec
}

// namespace refuses labels that make no sense, and says which pods are against rules that are new.
func (p podSecurity) namespace(ctx context.Context, r *Request) error {
	if r.Subresource != "" || r.Object == nil {
		return nil
	}
	rules, errs := security.PolicyToEvaluate(r.Object.GetLabels(), unlabelled)
	before, had := unlabelled, field.ErrorList(nil)
	if r.OldObject != nil {
		before, had = security.PolicyToEvaluate(r.OldObject.GetLabels(), unlabelled)
	}
	if len(errs) > len(had) {
		return apierrors.NewInvalid(r.Kind.GroupKind(), r.Key.Name, errs)
	}
	if r.OldObject == nil || r.Warn == nil || rules.Enforce.Equivalent(&before.Enforce) || rules.Enforce.Level == security.LevelPrivileged {
		return nil
	}
	l, err := p.reader.List(ctx, api.Pods, client.ListOptions{Namespace: r.Key.Name, ResourceVersion: "0"})
	if err != nil {
		return err
	}
	against := map[string][]string{} // pods by what is wrong with them
	for _, o := range l.Items {
		meta, spec := podOf(o)
		if result := policy.AggregateCheckResults(p.checks.EvaluatePod(rules.Enforce, meta, spec)); !result.Allowed {
			against[result.ForbiddenReason()] = append(against[result.ForbiddenReason()], o.GetName())
		}
	}
	if len(against) == 0 {
		return nil
	}
	r.Warn(fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", r.Key.Name, rules.Enforce.String()))
	var lines []string
	for reason, pods := range against {
		slices.Sort(pods)
		which := pods[0]
		switch n := len(pods) - 1; {
		case n == 1:
			which += " (and 1 other pod)"
		case n > 1:
			which += fmt.Sprintf(" (and %d other pods)", n)
		}
		lines = append(lines, which+": "+reason)
	}
	slices.SortFunc(lines, strings.Compare)
	for _, line := range lines {
		r.Warn(line)
	}
	return nil
}
