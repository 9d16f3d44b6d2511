package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
)

// How long a token lives, in seconds: what Kubernetes allows, and what it takes when nothing is said.
const (
	tokenMin     = 10 * 60
	tokenMax     = 1 << 32
	tokenDefault = 60 * 60
)

// issueToken answers a TokenRequest.
func (s *Server) issueToken(w http.ResponseWriter, r *request, p writeParams) {
	got, err := s.decode(w, r, p.validation, authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	req := got.(*authenticationv1.TokenRequest)
	t, err := s.tokenFor(r, req)
	if err == nil && !p.dryRun {
		req.Status.Token, err = s.cfg.Accounts.Issue(r.context(), *t)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	req.Status.ExpirationTimestamp = metav1.NewTime(s.cfg.Now().Add(t.Life))
	s.writeObject(w, r, r.format.plain(), http.StatusCreated, req)
}

// tokenFor completes and checks a request, and finds what the token is about.
func (s *Server) tokenFor(r *request, req *authenticationv1.TokenRequest) (*AccountToken, error) {
	if s.cfg.Accounts == nil {
		return nil, registry.Unavailable("this peer issues no tokens")
	}
	if req.Name != "" && req.Name != r.Name {
		return nil, badRequest("metadata.name: %q is not the service account of the path, %q", req.Name, r.Name)
	}
	if req.Namespace != "" && req.Namespace != r.Namespace {
		return nil, badRequest("metadata.namespace: %q is not the namespace of the path, %q", req.Namespace, r.Namespace)
	}
	if req.Spec.ExpirationSeconds == nil {
		req.Spec.ExpirationSeconds = new(int64)
		*req.Spec.ExpirationSeconds = tokenDefault
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = s.cfg.Accounts.Audiences()
	}
	life, path := *req.Spec.ExpirationSeconds, field.NewPath("spec", "expirationSeconds")
	var errs field.ErrorList
	switch {
	case life < tokenMin:
		errs = append(errs, field.Invalid(path, life, "may not specify a duration less than 10 minutes"))
	case life > tokenMax:
		errs = append(errs, field.Invalid(path, life, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), req.Name, errs)
	}
	account, err := s.reg.Get(r.Context(), r.kind, r.key(), client.GetOptions{})
	if err != nil {
		return nil, err
	}
	t := &AccountToken{
		Account: account.(*corev1.ServiceAccount), Audiences: slices.Clone(req.Spec.Audiences), Life: time.Duration(life) * time.Second,
	}
	if err := s.bindToken(r.Context(), t, r.Namespace, req.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	return t, mayAsk(r.user, t)
}

// bindToken finds the object that a token ends with.
func (s *Server) bindToken(ctx context.Context, t *AccountToken, namespace string, ref *authenticationv1.BoundObjectReference) error {
	if ref == nil {
		return nil
	}
	var k *shoalapi.Kind
	switch {
	case ref.APIVersion == "v1" && ref.Kind == "Pod":
		k = shoalapi.Pods
	case ref.APIVersion == "v1" && ref.Kind == "Secret":
		k = shoalapi.Secrets
	case ref.APIVersion == "v1" && ref.Kind == "Node":
		k, namespace = shoalapi.Nodes, ""
	default:
		return badRequest("cannot bind token to object of type %s", schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	}
	o, err := s.reg.Get(ctx, k, client.Key{Namespace: namespace, Name: ref.Name}, client.GetOptions{})
	if err != nil {
		return err
	}
	if ref.UID != "" && ref.UID != o.GetUID() {
		return apierrors.NewConflict(k.GVR().GroupResource(), ref.Name, uidMismatch(ref.UID, o.GetUID()))
	}
	t.Bound = o
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	if pod.Spec.ServiceAccountName != t.Account.Name {
		return badRequest("cannot bind token for serviceaccount %q to pod running with different serviceaccount name", t.Account.Name)
	}
	n, err := s.reg.Get(ctx, shoalapi.Nodes, client.Key{Name: pod.Spec.NodeName}, client.GetOptions{})
	if err == nil {
		t.Node = n.(*corev1.Node)
	}
	return ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// mayAsk holds nodes to tokens of their own pods.
func mayAsk(u *User, t *AccountToken) error {
	if u == nil || !slices.Contains(u.Groups, "system:nodes") || slices.Contains(u.Groups, "system:masters") {
		return nil
	}
	pod, ok := t.Bound.(*corev1.Pod)
	switch {
	case !ok:
		return apierrors.NewForbidden(shoalapi.ServiceAccounts.GVR().GroupResource(), t.Account.Name, errNodeToken("not bound to a pod"))
	case "system:node:"+pod.Spec.NodeName != u.Name:
		return apierrors.NewForbidden(shoalapi.ServiceAccounts.GVR().GroupResource(), t.Account.Name, errNodeToken("bound to a pod of another node"))
	}
	return nil
}

type errNodeToken string

func (e errNodeToken) Error() string { return "a node asked for a token " + string(e) }

type errUID struct{ want, is types.UID }

func uidMismatch(want, is types.UID) error { return errUID{want, is} }

func (e errUID) Error() string {
	return "the UID in the bound object reference (" + string(e.want) + ") does not match the UID in record (" + string(e.is) + ")"
}

// reviewToken answers whose token it is.
func (s *Server) reviewToken(w http.ResponseWriter, r *request) (runtime.Object, error) {
	got, err := s.decode(w, r, metav1.FieldValidationIgnore, authenticationv1.SchemeGroupVersion.WithKind("TokenReview"))
	if err != nil {
		return nil, err
	}
	review := got.(*authenticationv1.TokenReview)
	review.Status = authenticationv1.TokenReviewStatus{}
	switch {
	case review.Spec.Token == "":
		return nil, badRequest("token is required for TokenReview in authentication")
	case s.cfg.Accounts == nil:
		review.Status.Error = "this peer knows no tokens"
		return review, nil
	}
	u, of, err := s.cfg.Accounts.Review(r.Context(), review.Spec.Token, review.Spec.Audiences)
	if err != nil {
		review.Status.Error = err.Error()
		return review, nil
	}
	review.Status.Authenticated, review.Status.Audiences, review.Status.User = true, of, userInfo(u)
	return review, nil
}

func userInfo(u *User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}

// selfRules answers what the asker may do in a namespace.
func (s *Server) selfRules(w http.ResponseWriter, r *request) (runtime.Object, error) {
	got, err := s.decode(w, r, metav1.FieldValidationIgnore, authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"))
	if err != nil {
		return nil, err
	}
	review := got.(*authorizationv1.SelfSubjectRulesReview)
	if review.Spec.Namespace == "" {
		return nil, badRequest("no namespace on request")
	}
	st := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	rules, err := s.cfg.Auth.Rules(r.Context(), r.user, review.Spec.Namespace)
	if err != nil {
		st.Incomplete, st.EvaluationError = true, err.Error()
	}
	for _, rule := range rules {
		if len(rule.NonResourceURLs) > 0 {
			st.NonResourceRules = append(st.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
			continue
		}
		st.ResourceRules = append(st.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
		})
	}
	review.Spec, review.Status = authorizationv1.SelfSubjectRulesReviewSpec{}, st
	return review, nil
}

// serveIssuer tells others how to check our tokens (OpenID Connect Discovery 1.0).
func (s *Server) serveIssuer(w http.ResponseWriter, r *request, parts []string) {
	path := "/" + strings.Join(parts, "/")
	if s.cfg.Accounts == nil || path != issuerPath && path != keysPath {
		s.servePaths(w, r, http.StatusNotFound)
		return
	}
	keys, err := s.cfg.Accounts.Keys()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if path == keysPath {
		s.writeBody(w, r, "application/jwk-set+json", http.StatusOK, keys)
		return
	}
	b, err := json.Marshal(map[string]any{
		"issuer": s.cfg.Accounts.Issuer(), "jwks_uri": "https://" + r.Host + keysPath, "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeBody(w, r, mediaJSON, http.StatusOK, b)
}

const (
	issuerPath = "/.well-known/openid-configuration"
	keysPath   = "/openid/v1/jwks"
)
