package admission

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"shoal/internal/api"
	"shoal/internal/client"
)

// hook is one webhook: a mutating one has all that a validating one has.
type hook struct {
	admissionregistrationv1.ValidatingWebhook
	again         bool // reinvocationPolicy IfNeeded
	configuration string
	uid, revision string // of the configuration
}

func (h hook) key() string { return h.uid + "/" + h.Name }

// timeout is how long a hook may take.
func (h hook) timeout() time.Duration {
	if h.TimeoutSeconds == nil {
		return 10 * time.Second
	}
	return time.Duration(*h.TimeoutSeconds) * time.Second
}

// hooksOf returns the hooks of all configurations of a kind, in the order of their names.
func hooksOf[T api.Object](ctx context.Context, from Reader, k *api.Kind, of func(T) []hook) ([]hook, error) {
	l, err := from.List(ctx, k, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var out []hook
	for _, o := range l.Items {
		c, ok := o.(T)
		if !ok {
			continue
		}
		for _, h := range of(c) {
			h.configuration, h.uid, h.revision = c.GetName(), string(c.GetUID()), c.GetResourceVersion()
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b hook) int { return cmp.Compare(a.configuration, b.configuration) })
	return out, nil
}

// mutatingWebhooks has others change objects: one after the other, by the names of their configurations. Those that want it are asked once more when a later
// one has changed the object.
type mutatingWebhooks struct {
	reader Reader
	calls  *caller
}

func (p mutatingWebhooks) Admit(ctx context.Context, r *Request) error {
	hooks, err := hooksOf(ctx, p.reader, api.MutatingWebhookConfigurations, mutatingHooks)
	if err == nil {
		hooks, err = p.calls.matching(ctx, hooks, r)
	}
	if err != nil {
		return err
	}
	lastChange := -1
	for i, h := range hooks {
		changed, err := p.ask(ctx, h, r)
		if err != nil {
			return err
		}
		if changed {
			lastChange = i
		}
	}
	for i, h := range hooks {
		if !h.again || i >= lastChange {
			continue
		}
		if _, err := p.ask(ctx, h, r); err != nil {
			return err
		}
	}
	return nil
}

func mutatingHooks(c *admissionregistrationv1.MutatingWebhookConfiguration) (out []hook) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		out = append(out, hook{
			ValidatingWebhook: admissionregistrationv1.ValidatingWebhook{
				Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
				NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects, TimeoutSeconds: w.TimeoutSeconds,
				AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
			},
			again: w.ReinvocationPolicy != nil && *w.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy,
		})
	}
	return out
}

// ask calls a hook and applies what it answers.
func (p mutatingWebhooks) ask(ctx context.Context, h hook, r *Request) (changed bool, err error) {
	answer, err := p.calls.call(ctx, h, r)
	if err == nil && answer != nil && len(answer.Patch) > 0 {
		changed, err = change(h, r, answer)
	}
	return changed, h.failed(err, r)
}

// validatingWebhooks has others refuse.
type validatingWebhooks struct {
	reader Reader
	calls  *caller
}

func (p validatingWebhooks) Admit(ctx context.Context, r *Request) error {
	hooks, err := hooksOf(ctx, p.reader, api.ValidatingWebhookConfigurations, validatingHooks)
	if err == nil {
		hooks, err = p.calls.matching(ctx, hooks, r)
	}
	if err != nil || len(hooks) == 0 {
		return err
	}
	// All at once; the first one's refusal, by name, is the one that is told.
	problems := make([]error, len(hooks))
	done := make(chan struct{})
	said := make([][]string, len(hooks))
	for i, h := range hooks {
		go func() {
			quiet := *r
			quiet.Warn = func(text string) { said[i] = append(said[i], text) }
			_, err := p.calls.call(ctx, h, &quiet)
			problems[i] = h.failed(err, &quiet)
			done <- struct{}{}
		}()
	}
	for range hooks {
		<-done
	}
	for i := range hooks {
		for _, text := range said[i] {
			r.warn(text)
		}
	}
	for _, err := range problems {
		if err != nil {
			return err
		}
	}
	return nil
}

func validatingHooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) (out []hook) {
	for i := range c.Webhooks {
		out = append(out, hook{ValidatingWebhook: c.Webhooks[i]})
	}
	return out
}

// failedCall is that a hook could not be asked, or answered what makes no sense.
type failedCall struct{ err error }

func (e *failedCall) Error() string { return e.err.Error() }

// failed is what a call's error means for the request: a refusal stands, a failure counts where the hook's policy says so.
func (h hook) failed(err error, r *Request) error {
	failure, ok := err.(*failedCall)
	switch {
	case !ok:
		return err
	case h.FailurePolicy != nil && *h.FailurePolicy == admissionregistrationv1.Ignore:
		r.warn(fmt.Sprintf("admission webhook %q could not be asked, and is ignored: %v", h.Name, failure.err))
		return nil
	}
	return apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: %w", h.Name, failure.err))
}

// denied is a hook's refusal, in the words that clients know.
func denied(h hook, s *metav1.Status) error {
	if s == nil {
		s = &metav1.Status{}
	}
	out := *s.DeepCopy()
	out.Status, out.Code = metav1.StatusFailure, max(out.Code, http.StatusBadRequest)
	by := fmt.Sprintf("admission webhook %q denied the request", h.Name)
	switch {
	case out.Message != "":
		out.Message = by + ": " + out.Message
	case out.Reason != "":
		out.Message = by + ": " + string(out.Reason)
	default:
		out.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: out}
}

// change applies a hook's patch. Who an object is stays as it was.
func change(h hook, r *Request, answer *admissionv1.AdmissionResponse) (bool, error) {
	if r.Object == nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.Name))
	}
	before, err := encode(r.Kind, r.Object)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	after, err := patched(before, answer.Patch)
	if err != nil {
		return false, &failedCall{err: fmt.Errorf("its patch: %w", err)}
	}
	o := r.Kind.New()
	if err := decode(after, o); err != nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q made no %s of the object: %w", h.Name, r.Kind.Kind, err))
	}
	old := r.Object
	o.SetName(old.GetName())
	o.SetGenerateName(old.GetGenerateName())
	o.SetNamespace(old.GetNamespace())
	o.SetUID(old.GetUID())
	o.SetResourceVersion(old.GetResourceVersion())
	o.SetGeneration(old.GetGeneration())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	o.GetObjectKind().SetGroupVersionKind(r.Kind.GroupVersionKind)
	if r.Kind.Default != nil {
		r.Kind.Default(o)
	}
	if equality.Semantic.DeepEqual(old, o) {
		return false, nil
	}
	replace(old, o)
	return true, nil
}

// replace makes o what with is.
func replace(o, with api.Object) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		u.Object = with.(*unstructured.Unstructured).Object
		return
	}
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(with).Elem())
}
