package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/master/registry"
)

// statusOf returns the Status that an error is on the wire.
func statusOf(err error) metav1.Status {
	var s apierrors.APIStatus
	if !errors.As(err, &s) {
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			s = apierrors.NewTimeoutError("the request did not finish in time", 1)
		default:
			s = apierrors.NewInternalError(err)
		}
	}
	st := s.Status()
	st.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	if st.Status == "" {
		st.Status = metav1.StatusFailure
	}
	if st.Code == 0 {
		st.Code = http.StatusInternalServerError
	}
	return st
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *request, err error) {
	if registry.IsNotMaster(err) {
		if r.mayWait {
			r.again = true
			return
		}
		w.Header().Set(headerNotMaster, "1")
	}
	st := statusOf(err)
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	if st.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="kubernetes"`)
	}
	f := r.format
	if f.media == "" || f.as != asObject {
		// The format may not be known yet, and an error is never a table.
		if f, _ = negotiate(r.Header.Get("Accept"), objectFormats); f.media == "" {
			f = format{media: mediaJSON}
		}
		f.as = asObject
	}
	s.writeObject(w, r, f, int(st.Code), &st)
}

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

func internalError(message string) error { return apierrors.NewInternalError(errors.New(message)) }

// notServed is the answer to paths that no kind has.
func notServed() *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
	}}
}

func notAllowed() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource", Details: &metav1.StatusDetails{},
	}}
}

func notAcceptable(accepted string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + accepted,
	}}
}

func strangerRefused() *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: "say who you are, with a certificate or a token: only health and version are for everybody",
	}}
}
