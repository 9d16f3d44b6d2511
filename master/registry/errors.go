package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/api"
)

// This file is the single crossing from the errors of store and consensus to those of the API.

// fromLog turns an error of the log or of the store into a StatusError. Nil, StatusErrors and the caller's own
// cancellation pass unchanged.
func fromLog(ctx context.Context, err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil, errors.As(err, &status):
		return err
	case errors.Is(err, consensus.ErrUnknownOutcome):
		return apierrors.NewTimeoutError("the write may or may not have happened: read before you try again", 0)
	case errors.Is(err, consensus.ErrNotMaster), errors.Is(err, consensus.ErrNoMaster):
		return notMaster(err)
	case errors.Is(err, store.ErrCompacted):
		return apierrors.NewResourceExpired("the requested revision is no longer kept: list again")
	case errors.Is(err, store.ErrFuture):
		return tooLarge("the requested revision has not been reached here")
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("the request did not finish in time", 1)
	}
	return internal(err)
}

// Unavailable says that the cluster cannot do this now, and to try again.
func Unavailable(why string) error {
	err := apierrors.NewServiceUnavailable(why)
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

// causeNotMaster marks the errors of IsNotMaster.
const causeNotMaster metav1.CauseType = "NotMaster"

func notMaster(why error) error {
	err := apierrors.NewServiceUnavailable(why.Error())
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1, Causes: []metav1.StatusCause{{Type: causeNotMaster, Message: why.Error()}}}
	return err
}

// IsNotMaster reports whether a write was refused, and certainly not done, because this peer is not the Master.
func IsNotMaster(err error) bool { return apierrors.HasStatusCause(err, causeNotMaster) }

func internal(err error) error { return apierrors.NewInternalError(err) }

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

// tooLarge is what clients recognise as "this server is behind the revision you ask for".
func tooLarge(message string) error {
	err := apierrors.NewTimeoutError(message, 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

func notFound(k *api.Kind, name string) error {
	return apierrors.NewNotFound(k.GVR().GroupResource(), name)
}

func conflict(k *api.Kind, name string, format string, args ...any) error {
	return apierrors.NewConflict(k.GVR().GroupResource(), name, fmt.Errorf(format, args...))
}

// stale is the conflict of a write that was computed from another revision than the stored one.
func stale(k *api.Kind, name string) error {
	return conflict(k, name, "the object has been modified; please apply your changes to the latest version and try again")
}

func invalid(k *api.Kind, name string, errs ...*field.Error) error {
	return apierrors.NewInvalid(k.GroupVersionKind.GroupKind(), name, errs)
}

// failure makes a StatusError of a code that apierrors has no constructor for.
func failure(code int32, reason metav1.StatusReason, format string, args ...any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: fmt.Sprintf(format, args...),
	}}
}

// unsupportedPatch names the ways there are; k may be nil.
func unsupportedPatch(k *api.Kind, t string) error {
	strategic := "application/strategic-merge-patch+json, "
	if k != nil && k.Custom != nil {
		strategic = ""
	}
	return failure(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "+
			"application/merge-patch+json, "+strategic+"application/apply-patch+yaml; got %q", t)
}

func terminating(k *api.Kind) error {
	err := apierrors.NewMethodNotSupported(k.GVR().GroupResource(), "create")
	err.ErrStatus.Message = "create not allowed while custom resource definition is terminating"
	return err
}
