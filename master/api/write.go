package api

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
)

// headerRevision tells the revision of a write.
const headerRevision = "X-Shoal-Revision"

// headerName tells what a new object is called, for the audit log of the peer that passed its creation on.
const headerName = "X-Shoal-Name"

// writeParams are the query parameters of a write.
type writeParams struct {
	dryRun     bool
	manager    string
	validation string
	force      bool
}

func (r *request) writeParams(optionsKind string) (writeParams, error) {
	q := r.query()
	p := writeParams{manager: q.Get("fieldManager"), validation: q.Get("fieldValidation"), force: boolParam(q, "force")}
	var errs field.ErrorList
	for _, v := range q["dryRun"] {
		if v != metav1.DryRunAll {
			errs = append(errs, field.NotSupported(field.NewPath("dryRun"), v, []string{metav1.DryRunAll}))
		}
		p.dryRun = true
	}
	switch p.validation {
	case "", metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("fieldValidation"), p.validation,
			[]string{metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict}))
	}
	if len(p.manager) > 128 {
		errs = append(errs, field.TooLong(field.NewPath("fieldManager"), p.manager, 128))
	}
	if len(errs) > 0 {
		return p, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: optionsKind}, "", errs)
	}
	return p, nil
}

// managerOf returns who to note as the writer when the client does not say: the first word of its user agent.
func (r *request) managerOf(p writeParams) string {
	if p.manager != "" {
		return p.manager
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(name) > 128 {
		name = name[:128]
	}
	return name
}

// body reads the request body, which is small enough to keep.
func (r *request) body(w http.ResponseWriter) ([]byte, error) {
	if r.raw != nil {
		return r.raw, nil
	}
	r.turns.seat.Yield()
	b, err := r.readBody(w)
	r.turns.seat.Resume()
	if err == nil {
		r.raw = b
	}
	return b, err
}

// bodyWait is how long a client may take to send a body.
const bodyWait = time.Minute

func (r *request) readBody(w http.ResponseWriter) ([]byte, error) {
	if r.ContentLength == 0 {
		return []byte{}, nil
	}
	var once sync.Once // w must not be touched after this
	late := time.AfterFunc(bodyWait, func() {
		once.Do(func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) })
	})
	defer once.Do(func() { late.Stop() })
	if n := r.ContentLength; n > 0 && n <= shoalapi.MaxBody {
		b := make([]byte, n)
		_, err := io.ReadFull(r.Body, b)
		return b, bodyError(err)
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, shoalapi.MaxBody))
	return b, bodyError(err)
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return apierrors.NewRequestEntityTooLargeError("limit is " + strconv.Itoa(shoalapi.MaxBody))
	}
	return badRequest("the body could not be read: %v", err)
}

// decode reads the body as an object of kind want and passes warnings on.
func (s *Server) decode(w http.ResponseWriter, r *request, validation string, want schema.GroupVersionKind) (runtime.Object, error) {
	b, err := r.body(w)
	if err != nil {
		return nil, err
	}
	obj, warnings, err := s.decodeBody(b, r, validation, want)
	if err != nil {
		return nil, err
	}
	for _, text := range warnings {
		warn(w, text)
	}
	return obj, nil
}

func (s *Server) decodeBody(b []byte, r *request, validation string, want schema.GroupVersionKind) (runtime.Object, []string, error) {
	media := r.Header.Get("Content-Type")
	if k := r.kind; k != nil && k.Custom != nil && want == k.GroupVersionKind {
		return s.codecs.DecodeCustom(b, media, validation, k)
	}
	return s.codecs.Decode(b, media, validation, want)
}

// place puts an object without a namespace into the request's.
func (r *request) place(obj metav1.Object) error {
	if !r.kind.Namespaced {
		return nil
	}
	switch ns := obj.GetNamespace(); ns {
	case "":
		obj.SetNamespace(r.Namespace)
	case r.Namespace:
	default:
		return badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

func (r *request) key() client.Key {
	if r.kind.Namespaced {
		return client.Key{Namespace: r.Namespace, Name: r.Name}
	}
	return client.Key{Name: r.Name}
}

// written answers a write with its entry, once reads here include it.
func (s *Server) written(w http.ResponseWriter, r *request, code int, e *registry.Entry) {
	for _, text := range r.warnings {
		warn(w, text)
	}
	if r.kind.Warnings != nil {
		for _, text := range r.kind.Warnings(e.Object) {
			warn(w, text)
		}
	}
	s.settle(w, r, e)
	s.writeEntry(w, r, code, e)
}

func (s *Server) settle(w http.ResponseWriter, r *request, e *registry.Entry) {
	if e.Rev == 0 {
		return
	}
	w.Header().Set(headerRevision, e.Rev.String())
	if r.Name == "" && e.Object != nil {
		w.Header().Set(headerName, e.Object.GetName())
	}
	// An answer that comes late is better than none: the write has happened.
	_ = s.reg.WaitRevision(r.Context(), uint64(e.Rev))
}

func (s *Server) create(w http.ResponseWriter, r *request) {
	p, err := r.writeParams("CreateOptions")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	switch r.Subresource {
	case "":
	case "binding":
		s.bind(w, r, p)
		return
	case "eviction":
		s.evict(w, r, p)
		return
	case "token":
		s.issueToken(w, r, p)
		return
	default:
		s.fail(w, r, notAllowed())
		return
	}
	got, err := s.decode(w, r, p.validation, r.kind.GroupVersionKind)
	if err == nil {
		var e *registry.Entry
		obj := got.(shoalapi.Object)
		if err = r.place(obj); err == nil {
			e, err = s.reg.CreateEntry(r.context(), r.kind, obj, client.CreateOptions{DryRun: p.dryRun, FieldManager: r.managerOf(p)})
		}
		if err == nil {
			s.written(w, r, http.StatusCreated, e)
			return
		}
	}
	s.fail(w, r, err)
}

func (s *Server) bind(w http.ResponseWriter, r *request, p writeParams) {
	got, err := s.decode(w, r, p.validation, corev1.SchemeGroupVersion.WithKind("Binding"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	b := got.(*corev1.Binding)
	if r.kind == nil { // POST to the collection of bindings
		r.kind, r.Name = shoalapi.Pods, b.Name
	}
	if err := r.place(b); err != nil {
		s.fail(w, r, err)
		return
	}
	out, err := s.reg.Create(r.context(), r.kind, b, client.CreateOptions{Subresource: "binding", Key: r.key(), DryRun: p.dryRun})
	s.answer(w, r, http.StatusCreated, out, err)
}

// answer sends what a call through client.Interface returned.
func (s *Server) answer(w http.ResponseWriter, r *request, code int, out runtime.Object, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if m, err := meta.Accessor(out); err == nil && m.GetResourceVersion() != "" {
		w.Header().Set(headerRevision, m.GetResourceVersion())
		if rev, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64); err == nil {
			_ = s.reg.WaitRevision(r.Context(), rev)
		}
	}
	s.writeObject(w, r, r.format.plain(), code, out)
}

func (s *Server) update(w http.ResponseWriter, r *request) {
	p, err := r.writeParams("UpdateOptions")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o := client.UpdateOptions{Subresource: r.Subresource, Key: r.key(), DryRun: p.dryRun, FieldManager: r.managerOf(p)}
	if r.Subresource == "scale" {
		got, err := s.decode(w, r, p.validation, autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		out, err := s.reg.Update(r.context(), r.kind, got, o)
		s.answer(w, r, http.StatusOK, out, err)
		return
	}
	got, err := s.decode(w, r, p.validation, r.kind.GroupVersionKind)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	obj := got.(shoalapi.Object)
	if !r.kind.Namespaced {
		obj.SetNamespace("")
	}
	e, created, err := s.reg.UpdateEntry(r.context(), r.kind, obj, o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.written(w, r, codeOf(created), e)
}

func codeOf(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (s *Server) patch(w http.ResponseWriter, r *request) {
	p, err := r.writeParams("PatchOptions")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind := types.PatchType(strings.TrimSpace(media))
	switch kind {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyPatchType:
	default:
		s.fail(w, r, unsupportedPatch())
		return
	}
	b, err := r.body(w)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	manager := p.manager
	if kind != types.ApplyPatchType {
		manager = r.managerOf(p)
	}
	res, err := s.reg.PatchEntry(r.context(), r.kind, r.key(), client.Patch{Type: kind, Data: b}, client.PatchOptions{
		Subresource: r.Subresource, DryRun: p.dryRun, FieldManager: manager, FieldValidation: p.validation, Force: p.force,
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, text := range res.Warnings {
		warn(w, text)
	}
	if res.Scale != nil {
		s.settle(w, r, res.Entry)
		s.writeObject(w, r, r.format.plain(), http.StatusOK, res.Scale)
		return
	}
	s.written(w, r, codeOf(res.Created), res.Entry)
}

func unsupportedPatch() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, " +
			"application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
	}}
}
