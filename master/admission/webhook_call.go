package admission

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	kjson "sigs.k8s.io/json"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
	"shoal/master/admission/expression"
)

const (
	// mostAnswer is how long a hook's answer may be: a patch of the largest object.
	mostAnswer = 4 << 20
	// mostClients is how many hooks' connections are kept.
	mostClients = 100
	// component is who asks when a component of this process writes.
	component = "system:kube-controller-manager"
)

// caller calls webhooks. Safe for concurrent use.
type caller struct {
	reader Reader
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	authz  authorizer.UnconditionalAuthorizer // for conditions; nil: nobody may do anything

	conditions *expression.Cache[*expression.Conditions]

	mu      sync.Mutex
	clients map[[sha256.Size]byte]*http.Client // by what they trust and where they connect to
}

func newCaller(reader Reader, authz authorizer.UnconditionalAuthorizer) *caller {
	return &caller{
		reader: reader, dial: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, authz: authz, conditions: &expression.Cache[*expression.Conditions]{},
		clients: map[[sha256.Size]byte]*http.Client{},
	}
}

// call asks a hook. A StatusError is its refusal; a failedCall means that it did not say anything that makes sense.
func (c *caller) call(ctx context.Context, h hook, r *Request) (*admissionv1.AdmissionResponse, error) {
	if r.DryRun && (h.SideEffects == nil || *h.SideEffects != admissionregistrationv1.SideEffectClassNone && *h.SideEffects != admissionregistrationv1.SideEffectClassNoneOnDryRun) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.Name))
	}
	if !slices.Contains(h.AdmissionReviewVersions, admissionv1.SchemeGroupVersion.Version) {
		return nil, &failedCall{err: errors.New("it does not take AdmissionReviews of version v1")}
	}
	review, err := question(r)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout())
	defer cancel()
	answer, err := c.post(ctx, h, review)
	if err != nil {
		return nil, &failedCall{err: err}
	}
	for _, text := range answer.Warnings {
		r.warn(text)
	}
	if !answer.Allowed {
		return nil, denied(h, answer.Result)
	}
	return answer, nil
}

// question is what a hook is told of a request.
func question(r *Request) (*admissionv1.AdmissionReview, error) {
	gvk := metav1.GroupVersionKind{Group: r.Kind.Group, Version: r.Kind.Version, Kind: r.Kind.Kind}
	gvr := metav1.GroupVersionResource{Group: r.Kind.Group, Version: r.Kind.Version, Resource: r.Kind.Resource}
	q := &admissionv1.AdmissionRequest{
		UID: uuid.NewUUID(), Kind: gvk, Resource: gvr, SubResource: r.Subresource, RequestKind: &gvk, RequestResource: &gvr, RequestSubResource: r.Subresource,
		Name: r.Key.Name, Namespace: r.Key.Namespace, Operation: admissionv1.Operation(r.Operation), DryRun: &r.DryRun,
		UserInfo: authenticationv1.UserInfo{Username: component, Groups: []string{"system:authenticated"}},
	}
	if r.Kind == api.Namespaces {
		q.Namespace = r.Key.Name
	}
	if u := r.User; u != nil {
		q.UserInfo = authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
		for key, values := range u.Extra {
			if q.UserInfo.Extra == nil {
				q.UserInfo.Extra = map[string]authenticationv1.ExtraValue{}
			}
			q.UserInfo.Extra[key] = values
		}
	}
	for _, x := range []struct {
		o  api.Object
		to *runtime.RawExtension
	}{{r.Object, &q.Object}, {r.OldObject, &q.OldObject}} {
		if x.o == nil {
			continue
		}
		var err error
		if x.to.Raw, err = encode(r.Kind, x.o); err != nil {
			return nil, err
		}
	}
	return &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Request: q}, nil
}

func (c *caller) post(ctx context.Context, h hook, review *admissionv1.AdmissionReview) (*admissionv1.AdmissionResponse, error) {
	at, name, address, err := c.where(ctx, &h.ClientConfig)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(review)
	if err != nil {
		return nil, err
	}
	q := at.Query()
	q.Set("timeout", h.timeout().String())
	at.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	hc, err := c.clientOf(h.ClientConfig.CABundle, name, address)
	if err != nil {
		return nil, err
	}
	defer fair.Yield(ctx)()
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostAnswer:
		return nil, fmt.Errorf("its answer is longer than %d bytes", mostAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s: %.200s", resp.Status, text)
	}
	return answerOf(text, review.Request)
}

// answerOf reads a hook's answer.
func answerOf(text []byte, q *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	answer := &admissionv1.AdmissionReview{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, answer); err != nil {
		return nil, fmt.Errorf("its answer is no AdmissionReview: %w", err)
	}
	a := answer.Response
	want := admissionv1.SchemeGroupVersion.WithKind("AdmissionReview")
	switch {
	case a == nil:
		return nil, errors.New("its answer has no response")
	case answer.GroupVersionKind() != want:
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, answer.GroupVersionKind())
	case a.UID != q.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", q.UID, a.UID)
	case len(a.Patch) > 0 && a.PatchType == nil:
		return nil, errors.New("webhook returned response.patch but not response.patchType")
	case len(a.Patch) == 0 && a.PatchType != nil:
		return nil, errors.New("webhook returned response.patchType but not response.patch")
	case a.PatchType != nil && *a.PatchType != admissionv1.PatchTypeJSONPatch:
		return nil, fmt.Errorf("webhook returned invalid response.patchType of %q", *a.PatchType)
	}
	return a, nil
}

// where returns a hook's URL, the name that its certificate must have, and for a Service the address to connect to.
func (c *caller) where(ctx context.Context, cc *admissionregistrationv1.WebhookClientConfig) (at *url.URL, name, address string, err error) {
	if cc.URL != nil {
		at, err = url.Parse(*cc.URL)
		if err != nil {
			return nil, "", "", err
		}
		return at, at.Hostname(), "", nil
	}
	if cc.Service == nil {
		return nil, "", "", errors.New("it has neither a service nor a url")
	}
	s, port := cc.Service, int32(443)
	if s.Port != nil {
		port = *s.Port
	}
	o, err := c.reader.Get(ctx, api.Services, client.Key{Namespace: s.Namespace, Name: s.Name}, client.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, "", "", err
	}
	svc := o.(*corev1.Service)
	host := svc.Spec.ClusterIP
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		host = svc.Spec.ExternalName
	case host == "" || host == corev1.ClusterIPNone:
		return nil, "", "", fmt.Errorf("service %s/%s has no cluster IP", s.Namespace, s.Name)
	case !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }):
		return nil, "", "", fmt.Errorf("service %s/%s has no port %d", s.Namespace, s.Name, port)
	}
	name = s.Name + "." + s.Namespace + ".svc"
	at = &url.URL{Scheme: "https", Host: net.JoinHostPort(name, strconv.Itoa(int(port)))}
	if s.Path != nil {
		rest, err := url.Parse(*s.Path)
		if err != nil {
			return nil, "", "", err
		}
		at.Path, at.RawQuery = rest.Path, rest.RawQuery
	}
	return at, name, net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// clientOf returns the client for hooks that trust the same CA and are at the same place; one that is used no more gives way some time.
func (c *caller) clientOf(bundle []byte, name, address string) (*http.Client, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", bundle, name, address))
	c.mu.Lock()
	defer c.mu.Unlock()
	if hc := c.clients[key]; hc != nil {
		return hc, nil
	}
	conf := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if len(bundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, errors.New("clientConfig.caBundle has no certificate")
		}
	}
	if len(c.clients) >= mostClients {
		for old, hc := range c.clients {
			hc.CloseIdleConnections()
			delete(c.clients, old)
			break
		}
	}
	hc := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: conf, MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				if address != "" {
					to = address
				}
				return c.dial(ctx, network, to)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects, which webhooks may not") },
	}
	c.clients[key] = hc
	return hc, nil
}

// encode is an object as hooks see it.
func encode(k *api.Kind, o api.Object) ([]byte, error) {
	if o.GetObjectKind().GroupVersionKind().Empty() {
		o = o.DeepCopyObject().(api.Object)
		o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	}
	return json.Marshal(o)
}

func decode(text []byte, into api.Object) error {
	if u, ok := into.(*unstructured.Unstructured); ok {
		return u.UnmarshalJSON(text)
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(text, into)
}

// patched applies a JSON patch.
func patched(before, patch []byte) ([]byte, error) {
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return before, nil
	}
	return p.Apply(before)
}
