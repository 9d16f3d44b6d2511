package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
)

// rolloutProgress says how far a rollout is, by what kubectl goes by.
func rolloutProgress(k *api.Kind, o map[string]any) (text string, done bool, err error) {
	as := func(typed any) error { return runtime.DefaultUnstructuredConverter.FromUnstructured(o, typed) }
	switch k {
	case api.DaemonSets:
		var d appsv1.DaemonSet
		if err := as(&d); err != nil {
			return "", false, err
		}
		text, done = daemonProgress(&d)
	case api.StatefulSets:
		var s appsv1.StatefulSet
		if err := as(&s); err != nil {
			return "", false, err
		}
		text, done = statefulProgress(&s)
	default:
		var d appsv1.Deployment
		if err := as(&d); err != nil {
			return "", false, err
		}
		return deploymentProgress(&d)
	}
	return text, done, nil
}

const unseen = "waiting for the Master to see the change"

func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func deploymentProgress(d *appsv1.Deployment) (text string, done bool, err error) {
	s, want := d.Status, orOne(d.Spec.Replicas)
	if s.ObservedGeneration < d.Generation {
		return unseen, false, nil
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" && d.Spec.ProgressDeadlineSeconds != nil {
			return "", false, fmt.Errorf("no progress for %d seconds: see shoal describe deployment %s", *d.Spec.ProgressDeadlineSeconds, d.Name)
		}
	}
	switch {
	case d.Spec.Paused && s.UpdatedReplicas < want:
		return fmt.Sprintf("%d of %d pods are new; the rollout is paused", s.UpdatedReplicas, want), false, nil
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("%d of %d pods are new", s.UpdatedReplicas, want), false, nil
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%d old pods are still there", s.Replicas-s.UpdatedReplicas), false, nil
	case s.AvailableReplicas < s.UpdatedReplicas:
		return fmt.Sprintf("%d of %d new pods are available", s.AvailableReplicas, s.UpdatedReplicas), false, nil
	}
	return "rolled out", true, nil
}

func daemonProgress(d *appsv1.DaemonSet) (text string, done bool) {
	s, want := d.Status, d.Status.DesiredNumberScheduled
	switch {
	case d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return "pods are replaced when they are deleted (OnDelete)", true
	case s.ObservedGeneration < d.Generation:
		return unseen, false
	case s.UpdatedNumberScheduled < want:
		return fmt.Sprintf("%d of %d pods are new", s.UpdatedNumberScheduled, want), false
	case s.NumberAvailable < want:
		return fmt.Sprintf("%d of %d new pods are available", s.NumberAvailable, want), false
	}
	return "rolled out", true
}

func statefulProgress(o *appsv1.StatefulSet) (text string, done bool) {
	s, want := o.Status, orOne(o.Spec.Replicas)
	if o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return "pods are replaced when they are deleted (OnDelete)", true
	}
	due := want
	if u := o.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		due = max(0, want-*u.Partition)
	}
	switch {
	case s.ObservedGeneration < o.Generation:
		return unseen, false
	case s.ReadyReplicas < want:
		return fmt.Sprintf("%d of %d pods are ready", s.ReadyReplicas, want), false
	case s.UpdatedReplicas < due:
		return fmt.Sprintf("%d of %d pods are new", s.UpdatedReplicas, due), false
	case due < want:
		return fmt.Sprintf("rolled out as far as the partition: %d of %d pods are new", s.UpdatedReplicas, want), true
	}
	return "rolled out", true
}
