package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/admission/expression"
)

// unhooked reports whether a request is never shown to webhooks: those that would mend what a webhook breaks.
func unhooked(r *Request) bool {
	if r.Kind.Group != admissionregistrationv1.GroupName {
		return false
	}
	switch r.Kind.Resource {
	case "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
		"mutatingadmissionpolicies", "mutatingadmissionpolicybindings":
		return true
	}
	return false
}

// matching returns the hooks that want to see a request.
func (c *caller) matching(ctx context.Context, hooks []hook, r *Request) ([]hook, error) {
	if len(hooks) == 0 || unhooked(r) {
		return nil, nil
	}
	var out []hook
	at := newPlace(c.reader, r)
	var input *expression.Input // made when a hook has conditions
	var live []string
	for _, h := range hooks {
		live = append(live, h.key())
	}
	for _, h := range hooks {
		if !slices.ContainsFunc(h.Rules, func(rule admissionregistrationv1.RuleWithOperations) bool { return h.covers(&rule, r) }) {
			continue
		}
		if here, err := at.has(ctx, h); err != nil {
			return nil, err
		} else if !here {
			continue
		}
		if len(h.MatchConditions) > 0 {
			if input == nil {
				var err error
				if input, err = inputOf(ctx, c.reader, r, c.authz); err != nil {
					return nil, err
				}
			}
			compiled := c.conditions.Get(h.key(), h.revision, live, func() *expression.Conditions { return expression.NewConditions(h.MatchConditions, h.FailurePolicy) })
			about, err := compiled.Match(ctx, input, nil)
			if err != nil {
				return nil, r.forbidden(fmt.Errorf("webhook %q: its matchConditions: %w", h.Name, err))
			}
			if !about {
				continue
			}
		}
		out = append(out, h)
	}
	return out, nil
}

// place is where a request is: selectors look at its namespace, which is read when one does.
type place struct {
	from  Reader
	r     *Request
	where labels.Set
	read  bool
}

func newPlace(from Reader, r *Request) *place { return &place{from: from, r: r} }

// has reports whether a hook's selectors are about the request.
func (p *place) has(ctx context.Context, h hook) (bool, error) {
	r := p.r
	if !isEverything(h.ObjectSelector) && !selects(h.ObjectSelector, r.Object) && !selects(h.ObjectSelector, r.OldObject) {
		return false, nil
	}
	if isEverything(h.NamespaceSelector) || !r.Kind.Namespaced && r.Kind != api.Namespaces {
		return true, nil
	}
	if !p.read {
		var err error
		if p.where, err = namespaceLabels(ctx, p.from, r); err != nil {
			return false, err
		}
		p.read = true
	}
	s, err := metav1.LabelSelectorAsSelector(h.NamespaceSelector)
	return err == nil && s.Matches(p.where), nil
}

// covers reports whether a rule is about a request. Versions do not matter unless the hook wants exactly the one it names: objects are shown in the version
// in which they are stored.
func (h hook) covers(rule *admissionregistrationv1.RuleWithOperations, r *Request) bool {
	exact := h.MatchPolicy != nil && *h.MatchPolicy == admissionregistrationv1.Exact
	return (slices.Contains(rule.Operations, admissionregistrationv1.OperationAll) || slices.Contains(rule.Operations, admissionregistrationv1.OperationType(r.Operation))) &&
		anyOf(rule.APIGroups, r.Kind.Group) && (!exact || anyOf(rule.APIVersions, r.Kind.Version)) && inScope(rule.Scope, r.Kind) &&
		slices.ContainsFunc(rule.Resources, func(text string) bool {
			resource, sub, _ := strings.Cut(text, "/")
			return (resource == "*" || resource == r.Kind.Resource) && (sub == "*" || sub == r.Subresource)
		})
}

func anyOf(all []string, s string) bool { return slices.Contains(all, "*") || slices.Contains(all, s) }

func inScope(s *admissionregistrationv1.ScopeType, k *api.Kind) bool {
	switch {
	case s == nil || *s == admissionregistrationv1.AllScopes:
		return true
	case *s == admissionregistrationv1.NamespacedScope:
		return k.Namespaced
	}
	return !k.Namespaced
}

func isEverything(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0
}

func selects(s *metav1.LabelSelector, o api.Object) bool {
	if o == nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(o.GetLabels()))
}

// namespaceLabels are those of the namespace that a request is in; of one that is written, its own.
func namespaceLabels(ctx context.Context, from Reader, r *Request) (labels.Set, error) {
	if r.Kind == api.Namespaces {
		if r.Object != nil {
			return r.Object.GetLabels(), nil
		}
		return r.OldObject.GetLabels(), nil
	}
	o, err := find(ctx, from, api.Namespaces, client.Key{Name: r.Key.Namespace})
	if apierrors.IsNotFound(err) {
		return labels.Set{}, nil // the namespace's life cycle refuses it
	}
	if err != nil {
		return nil, err
	}
	return o.GetLabels(), nil
}
