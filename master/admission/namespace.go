package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// namespaceLifecycle lets nothing new into a namespace that is missing or going, and keeps the ones every cluster has.
type namespaceLifecycle struct{ reader Reader }

func (p namespaceLifecycle) Admit(ctx context.Context, r *Request) error {
	if r.is(api.Namespaces, Delete) {
		switch r.Key.Name {
		case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
			return r.forbidden(errors.New("this namespace may not be deleted"))
		}
		return nil
	}
	if !r.Kind.Namespaced || r.Operation != Create || r.Subresource != "" {
		return nil
	}
	o, err := find(ctx, p.reader, api.Namespaces, client.Key{Name: r.Key.Namespace})
	if err != nil {
		return err // not found, in the namespace's own name: that is what clients expect
	}
	ns := o.(*corev1.Namespace)
	if ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	refusal := r.forbidden(fmt.Errorf("unable to create new content in namespace %s because it is being terminated", ns.Name))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", ns.Name),
		Field:   "metadata.namespace",
	})
	return refusal
}
