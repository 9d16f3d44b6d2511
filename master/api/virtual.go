package api

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/metrics/pkg/apis/metrics"
)

// Some resources are questions: nothing of them is stored, and any peer answers.

// negotiated chooses the format of such an answer, or refuses the request.
func (s *Server) negotiated(w http.ResponseWriter, r *request) (ok bool) {
	if r.format, ok = negotiate(r.Header.Get("Accept"), objectFormats); !ok {
		s.fail(w, r, notAcceptable(objectFormats.String()))
	}
	return ok
}

// isQuestion reports whether a group has only such resources.
func isQuestion(group string) bool {
	return group == authorizationv1.GroupName || group == authenticationv1.GroupName
}

// virtual answers resources that are in no row of the kinds table.
func (s *Server) virtual(w http.ResponseWriter, r *request) {
	var f func(http.ResponseWriter, *request) (runtime.Object, error)
	switch {
	case r.Group == metrics.GroupName && r.Version == "v1beta1":
		s.serveMetrics(w, r)
		return
	case r.Group == "" && r.Version == "v1" && r.Resource == "componentstatuses":
		s.serveComponents(w, r)
		return
	case r.Name != "":
	case r.Group == "" && r.Version == "v1" && r.Resource == "bindings" && r.Namespace != "":
		s.bindings(w, r)
		return
	case r.Group == authorizationv1.GroupName && r.Version == "v1":
		switch r.Resource {
		case "selfsubjectaccessreviews":
			f = s.selfAccess
		case "selfsubjectrulesreviews":
			f = s.selfRules
		case "subjectaccessreviews", "localsubjectaccessreviews":
			f = s.subjectAccess
		}
	case r.Group == authenticationv1.GroupName && r.Version == "v1":
		switch r.Resource {
		case "selfsubjectreviews":
			f = s.selfSubject
		case "tokenreviews":
			f = s.reviewToken
		}
	}
	switch {
	case f == nil:
		s.unknown(w, r, r.Group)
		return
	case r.Verb != "create":
		s.fail(w, r, notAllowed())
		return
	}
	if !s.negotiated(w, r) {
		return
	}
	out, err := f(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeObject(w, r, r.format.plain(), http.StatusCreated, out)
}

func (s *Server) bindings(w http.ResponseWriter, r *request) {
	if !s.negotiated(w, r) {
		return
	}
	p, err := r.writeParams("CreateOptions")
	switch {
	case r.Verb != "create":
		s.fail(w, r, notAllowed())
	case err != nil:
		s.fail(w, r, err)
	default:
		s.bind(w, r, p)
	}
}

func (s *Server) selfAccess(w http.ResponseWriter, r *request) (runtime.Object, error) {
	got, err := s.decode(w, r, metav1.FieldValidationIgnore, authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"))
	if err != nil {
		return nil, err
	}
	review := got.(*authorizationv1.SelfSubjectAccessReview)
	a, err := attributesOf(review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	if err != nil {
		return nil, err
	}
	review.Status = s.decide(r, r.user, a)
	return review, nil
}

func (s *Server) subjectAccess(w http.ResponseWriter, r *request) (runtime.Object, error) {
	kind := "SubjectAccessReview"
	if r.Resource == "localsubjectaccessreviews" {
		kind = "LocalSubjectAccessReview"
	}
	got, err := s.decode(w, r, metav1.FieldValidationIgnore, authorizationv1.SchemeGroupVersion.WithKind(kind))
	if err != nil {
		return nil, err
	}
	var spec *authorizationv1.SubjectAccessReviewSpec
	var status *authorizationv1.SubjectAccessReviewStatus
	switch o := got.(type) {
	case *authorizationv1.SubjectAccessReview:
		spec, status = &o.Spec, &o.Status
	case *authorizationv1.LocalSubjectAccessReview:
		spec, status = &o.Spec, &o.Status
		if spec.ResourceAttributes == nil || spec.ResourceAttributes.Namespace != r.Namespace {
			return nil, invalidReview("spec.resourceAttributes.namespace", "must match metadata.namespace")
		}
	}
	if spec.User == "" && len(spec.Groups) == 0 {
		return nil, invalidReview("spec.user", "at least one of user or group must be specified")
	}
	a, err := attributesOf(spec.ResourceAttributes, spec.NonResourceAttributes)
	if err != nil {
		return nil, err
	}
	u := &User{Name: spec.User, UID: spec.UID, Groups: spec.Groups, Extra: map[string][]string{}}
	for k, v := range spec.Extra {
		u.Extra[k] = v
	}
	*status = s.decide(r, u, a)
	return got, nil
}

func (s *Server) selfSubject(w http.ResponseWriter, r *request) (runtime.Object, error) {
	got, err := s.decode(w, r, metav1.FieldValidationIgnore, authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"))
	if err != nil {
		return nil, err
	}
	review := got.(*authenticationv1.SelfSubjectReview)
	if r.user != nil {
		review.Status.UserInfo = userInfo(r.user)
	}
	return review, nil
}

func (s *Server) decide(r *request, u *User, a *Attributes) authorizationv1.SubjectAccessReviewStatus {
	err := s.cfg.Auth.Authorize(r.Context(), u, a)
	switch {
	case err == nil:
		return authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	case apierrors.IsForbidden(err):
		return authorizationv1.SubjectAccessReviewStatus{}
	}
	return authorizationv1.SubjectAccessReviewStatus{EvaluationError: err.Error()}
}

func attributesOf(res *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) (*Attributes, error) {
	switch {
	case res != nil && other != nil:
		return nil, invalidReview("spec.nonResourceAttributes", "cannot be specified in combination with resourceAttributes")
	case res != nil:
		return &Attributes{
			Verb: res.Verb, Group: res.Group, Version: res.Version, Resource: res.Resource, Subresource: res.Subresource,
			Namespace: res.Namespace, Name: res.Name, IsResource: true,
		}, nil
	case other != nil:
		return &Attributes{Verb: other.Verb, Path: other.Path}, nil
	}
	return nil, invalidReview("spec.resourceAttributes", "exactly one of nonResourceAttributes or resourceAttributes must be specified")
}

func invalidReview(path, why string) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", field.ErrorList{
		field.Invalid(field.NewPath(path), nil, why),
	})
}
