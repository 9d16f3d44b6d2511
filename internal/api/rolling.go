package api

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of a ReplicationController whose pods the Master replaces by those of another template, or of another
// ReplicationController, little by little.
const (
	RollingUpdateAnnotation    = "shoal/rolling-update"    // a RollingUpdate
	PreviousTemplateAnnotation = "shoal/previous-template" // the template that a rollback goes back to, as JSON
	VersionAnnotation          = "shoal/version"           // of a template, and thus of its pods: differs from that of the template before
)

// RollingUpdate is what a rolling update of a ReplicationController is to do.
type RollingUpdate struct {
	// Surge is how many pods there may be beyond those that are wanted; at least 1.
	Surge  int  `json:"surge"`
	Paused bool `json:"paused,omitempty"`
	// From is the ReplicationController whose pods are replaced by this one's, and which is deleted in the end; empty: this one's own
	// of other versions are.
	From string `json:"from,omitempty"`
	// Replicas is how many there are to be, with From.
	Replicas int32 `json:"replicas,omitempty"`
}

// RollingUpdateOf returns the rolling update of a ReplicationController, or nil when there is none.
func RollingUpdateOf(rc *corev1.ReplicationController) (*RollingUpdate, error) {
	text, ok := rc.Annotations[RollingUpdateAnnotation]
	if !ok {
		return nil, nil
	}
	u := &RollingUpdate{}
	if err := json.Unmarshal([]byte(text), u); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", RollingUpdateAnnotation, err)
	}
	if u.Surge < 1 || u.Replicas < 0 {
		return nil, fmt.Errorf("annotation %s: surge is %d and must be at least 1, replicas %d and must be at least 0", RollingUpdateAnnotation, u.Surge, u.Replicas)
	}
	return u, nil
}

// VersionOf is the version of the template that a pod, or a template, is of.
func VersionOf(annotations map[string]string) string { return annotations[VersionAnnotation] }
