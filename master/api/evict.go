package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// evict deletes a pod on behalf of someone who wants its node empty, if its disruption budget allows it.
func (s *Server) evict(w http.ResponseWriter, r *request, p writeParams) {
	ev, err := s.decodeEviction(w, r, p.validation)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if ev.Name != "" && ev.Name != r.Name {
		s.fail(w, r, badRequest("name in URL does not match name in Eviction object"))
		return
	}
	o := client.DeleteOptions{DryRun: p.dryRun}
	if d := ev.DeleteOptions; d != nil {
		o.GracePeriodSeconds, o.Preconditions, o.Propagation = d.GracePeriodSeconds, d.Preconditions, d.PropagationPolicy
		o.DryRun = o.DryRun || len(d.DryRun) > 0
	}
	err = s.allowEviction(r.context(), r.key(), &o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	e, _, err := s.reg.DeleteEntry(r.context(), r.kind, r.key(), o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.settle(w, r, e)
	s.writeObject(w, r, r.format.plain(), http.StatusCreated, &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess, Code: http.StatusCreated,
	})
}

// decodeEviction reads an Eviction in either version: v1beta1, which old clients send, means the same and is still taken everywhere.
func (s *Server) decodeEviction(w http.ResponseWriter, r *request, validation string) (*policyv1.Eviction, error) {
	got, err := s.decode(w, r, validation, policyv1.SchemeGroupVersion.WithKind("Eviction"))
	if err == nil {
		return got.(*policyv1.Eviction), nil
	}
	old, olderr := s.decode(w, r, validation, policyv1beta1.SchemeGroupVersion.WithKind("Eviction"))
	if olderr != nil {
		return nil, err
	}
	ev := old.(*policyv1beta1.Eviction)
	return &policyv1.Eviction{ObjectMeta: ev.ObjectMeta, DeleteOptions: ev.DeleteOptions}, nil
}

// evictionTries is how often a budget that somebody else writes to is read again.
const evictionTries = 10

// allowEviction takes one disruption from the budget of the pod. It notes in o which very pod it was allowed for.
func (s *Server) allowEviction(ctx context.Context, key client.Key, o *client.DeleteOptions) error {
	for range evictionTries {
		got, err := s.reg.Get(ctx, shoalapi.Pods, key, client.GetOptions{})
		if err != nil {
			return err
		}
		pod := got.(*corev1.Pod)
		if c := o.Preconditions; c != nil && c.UID != nil && *c.UID != pod.UID {
			return apierrors.NewConflict(shoalapi.Pods.GVR().GroupResource(), pod.Name,
				fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s): the pod was made anew", *c.UID, pod.UID))
		}
		budget, err := s.budgetOf(ctx, pod)
		if err != nil || budget == nil || ignoresBudget(pod, budget) {
			return err
		}
		if err := takeDisruption(budget, pod.Name, s.cfg.Now); err != nil {
			return err
		}
		_, err = s.reg.Update(ctx, shoalapi.PodDisruptionBudgets, budget, client.UpdateOptions{Subresource: "status", DryRun: o.DryRun})
		if apierrors.IsConflict(err) {
			continue
		}
		if err == nil && o.Preconditions == nil {
			o.Preconditions = &metav1.Preconditions{UID: &pod.UID}
		}
		return err
	}
	return apierrors.NewTooManyRequests("the pod's disruption budget changes too fast", 1)
}

// errTwoBudgets is Kubernetes' answer, down to its code.
var errTwoBudgets = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
	Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
}}

// budgetOf returns a copy of the budget that covers a pod, nil when none does.
func (s *Server) budgetOf(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	list, err := s.reg.List(ctx, shoalapi.PodDisruptionBudgets, client.ListOptions{Namespace: pod.Namespace})
	if err != nil {
		return nil, err
	}
	var found *policyv1.PodDisruptionBudget
	for _, o := range list.Items {
		b := o.(*policyv1.PodDisruptionBudget)
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if found != nil {
			return nil, errTwoBudgets
		}
		found = b
	}
	if found == nil {
		return nil, nil
	}
	return found.DeepCopy(), nil
}

// ignoresBudget reports whether a pod may go whatever its budget says: it serves nobody, so nothing is disrupted.
func ignoresBudget(pod *corev1.Pod, b *policyv1.PodDisruptionBudget) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending, "":
		return true
	}
	ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	switch {
	case pod.DeletionTimestamp != nil:
		return true
	case ready:
		return false
	case b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow:
		return true
	}
	return b.Status.DesiredHealthy > 0 && b.Status.CurrentHealthy >= b.Status.DesiredHealthy
}

// disruptedMax is how many evicted pods a budget waits for at most, as in Kubernetes.
const disruptedMax = 2000

// takeDisruption notes in a budget that a pod goes, or returns why it may not.
func takeDisruption(b *policyv1.PodDisruptionBudget, pod string, now func() time.Time) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return violates(10, "The disruption budget %s is still being processed by the server.", b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(shoalapi.PodDisruptionBudgets.GVR().GroupResource(), b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > disruptedMax:
		return apierrors.NewForbidden(shoalapi.PodDisruptionBudgets.GVR().GroupResource(), b.Name,
			errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		return violates(0, "The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
			ObservedGeneration: b.Status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now()),
		})
	}
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.NewTime(now())
	return nil
}

func violates(retry int, format string, args ...any) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retry)
	if retry == 0 {
		err.ErrStatus.Details = &metav1.StatusDetails{}
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf(format, args...),
	})
	return err
}
