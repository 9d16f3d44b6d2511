package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"shoal/internal/api"
)

// NodeRestriction holds a node to its own Node, its own pods, and what those pods refer to. Its functions answer from the
// local replica and must not block for long.
type NodeRestriction struct {
	// PodNode returns the name of the Node that a pod is bound to, empty when it is not bound, and whether the pod exists.
	PodNode func(ctx context.Context, namespace, name string) (node string, exists bool, err error)
	// Refers reports whether a pod bound to the node refers to an object: resource is secrets, configmaps,
	// serviceaccounts, persistentvolumeclaims or persistentvolumes.
	Refers func(ctx context.Context, node, resource, namespace, name string) (bool, error)
	// Holds reports whether a persistent volume is one that the node made and keeps, or none that there is.
	Holds func(ctx context.Context, node, volume string) (bool, error)
}

// Check returns nil if a node, whom the rules allow a, may do it to this very object, else why not. Creating a pod is
// checked with its content: see CheckMirror.
func (n *NodeRestriction) Check(ctx context.Context, u *User, a *Attributes) error {
	self := u.Node()
	if !a.IsResource || self == "" {
		return nil
	}
	switch a.Resource {
	case "nodes", "csinodes":
		return checkNode(self, a)
	case "pods":
		return n.checkPod(ctx, self, a)
	case "persistentvolumes":
		return n.checkVolume(ctx, self, a)
	case "secrets", "configmaps", "serviceaccounts", "persistentvolumeclaims":
		return n.checkReference(ctx, self, a)
	}
	return nil
}

func checkNode(self string, a *Attributes) error {
	// The name of a Node to be created stands in its body: CheckNode.
	if isRead(a.Verb) || a.Verb == "create" && a.Subresource == "" || a.Name == self {
		return nil
	}
	return fmt.Errorf("a node may change only its own Node, %s", self)
}

func (n *NodeRestriction) checkPod(ctx context.Context, self string, a *Attributes) error {
	if isRead(a.Verb) || a.Verb == "create" && a.Subresource == "" {
		return nil
	}
	if a.Name == "" {
		return errors.New("a node may change pods only one by one")
	}
	node, exists, err := n.PodNode(ctx, a.Namespace, a.Name)
	switch {
	case err != nil:
		return fmt.Errorf("look up the pod's node: %w", err)
	case !exists:
		return nil // the answer is 404, also for those of others
	case node != self:
		return fmt.Errorf("a node may change only pods bound to it; this one is bound to %q", node)
	}
	return nil
}

// checkVolume lets a node read the volumes that it keeps, and those of its pods' claims, and change those that it keeps; what of them, CheckVolume
// says.
func (n *NodeRestriction) checkVolume(ctx context.Context, self string, a *Attributes) error {
	if a.Name == "" {
		return n.checkReference(ctx, self, a)
	}
	holds, err := n.Holds(ctx, self, a.Name)
	switch {
	case err != nil:
		return fmt.Errorf("look up who holds it: %w", err)
	case holds:
		return nil
	case !isRead(a.Verb):
		return errors.New("a node may change only persistent volumes that it holds")
	}
	return n.checkReference(ctx, self, a)
}

func (n *NodeRestriction) checkReference(ctx context.Context, self string, a *Attributes) error {
	if a.Name == "" {
		return fmt.Errorf("a node may read %s only by name", a.Resource)
	}
	ok, err := n.Refers(ctx, self, a.Resource, a.Namespace, a.Name)
	if err != nil {
		return fmt.Errorf("look up who refers to it: %w", err)
	}
	if !ok {
		return fmt.Errorf("no pod on node %s refers to it", self)
	}
	return nil
}

func isRead(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

// CheckNode returns why a user who is a node may not write a Node with this name.
func CheckNode(u *User, name string) error {
	if self := u.Node(); self != "" && name != self {
		return fmt.Errorf("a node may write only its own Node, %s", self)
	}
	return nil
}

// CheckVolume returns why a user who is a node may not change a persistent volume so: only the finalizer is the node's, by which it says
// that it holds data.
func CheckVolume(u *User, old, v *corev1.PersistentVolume) error {
	if u.Node() == "" {
		return nil
	}
	others := func(v *corev1.PersistentVolume) *corev1.PersistentVolume {
		v = v.DeepCopy()
		v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == api.FinalizerLocal })
		v.ManagedFields, v.ResourceVersion, v.Generation = nil, "", 0
		return v
	}
	if !equality.Semantic.DeepEqual(others(old), others(v)) {
		return fmt.Errorf("a node may change nothing of a persistent volume but the finalizer %s", api.FinalizerLocal)
	}
	return nil
}

// CheckMirror returns why a user who is a node may not create this pod: it must be a mirror of one that the node runs by
// itself, bound to the node, and must not reach for what only pods of the cluster may have.
func CheckMirror(u *User, pod *corev1.Pod) error {
	self := u.Node()
	switch {
	case self == "":
		return nil
	case pod.Annotations[corev1.MirrorPodAnnotationKey] == "":
		return errors.New("a node may create only mirror pods")
	case pod.Spec.NodeName != self:
		return fmt.Errorf("a node may create only mirror pods bound to itself, %s", self)
	case pod.Spec.ServiceAccountName != "":
		return errors.New("a mirror pod may not have a service account")
	}
	for r := range References(pod) {
		return fmt.Errorf("a mirror pod may not refer to %s %q", r.Resource, r.Name)
	}
	return nil
}
