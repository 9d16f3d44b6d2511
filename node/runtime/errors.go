package runtime

import "errors"

// The reasons a container waits for, in Kubernetes' words, as they appear in a container's waiting state.
const (
	ReasonImagePull      = "ErrImagePull"
	ReasonImageNeverPull = "ErrImageNeverPull"
	ReasonImageInspect   = "ImageInspectError"
	ReasonInvalidImage   = "InvalidImageName"
	ReasonConfig         = "CreateContainerConfigError"
	ReasonCreate         = "CreateContainerError"
	ReasonRun            = "RunContainerError"
)

// Error is a failure with a reason meant for the pod's status. Image and StartContainer return it wherever they know one.
type Error struct {
	Reason string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reason returns the reason carried by err, or "" when it carries none.
func Reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
