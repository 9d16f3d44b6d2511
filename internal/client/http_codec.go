package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	mediaProto = "application/vnd.kubernetes.protobuf"
	mediaJSON  = "application/json"
)

// protoMagic begins every protobuf object of the Kubernetes wire; a runtime.Unknown that names its type follows.
var protoMagic = []byte{'k', '8', 's', 0}

// wire is what types with a protobuf form implement.
type wire interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// encode returns obj as a request body with its media type: protobuf when the type has it, else JSON. Both name the
// object's type, which servers need.
func (h *HTTP) encode(obj runtime.Object) ([]byte, string, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		kinds, _, err := h.cfg.Scheme.ObjectKinds(obj)
		if err != nil {
			return nil, "", fmt.Errorf("encode %T: %w", obj, err)
		}
		gvk = kinds[0]
	}
	if m, ok := obj.(wire); ok {
		raw, err := m.Marshal()
		if err != nil {
			return nil, "", fmt.Errorf("encode %T: %w", obj, err)
		}
		u := runtime.Unknown{Raw: raw}
		u.APIVersion, u.Kind = gvk.ToAPIVersionAndKind()
		b, err := u.Marshal()
		if err != nil {
			return nil, "", fmt.Errorf("encode %T: %w", obj, err)
		}
		return append(bytes.Clone(protoMagic), b...), mediaProto, nil
	}
	o := obj.DeepCopyObject()
	o.GetObjectKind().SetGroupVersionKind(gvk)
	b, err := json.Marshal(o)
	if err != nil {
		return nil, "", fmt.Errorf("encode %T: %w", obj, err)
	}
	return b, mediaJSON, nil
}

// decode reads body into obj. When body is a metav1.Status although obj is none, it returns that instead.
func decode(contentType string, body []byte, obj runtime.Object) (*metav1.Status, error) {
	_, wantsStatus := obj.(*metav1.Status)
	if !isProto(contentType) {
		var t metav1.TypeMeta
		if err := json.Unmarshal(body, &t); err != nil {
			return nil, fmt.Errorf("decode answer: %w", err)
		}
		if t.Kind == "Status" && t.APIVersion == "v1" && !wantsStatus {
			st := &metav1.Status{}
			return st, json.Unmarshal(body, st)
		}
		if err := json.Unmarshal(body, obj); err != nil {
			return nil, fmt.Errorf("decode answer: %w", err)
		}
		return nil, nil
	}
	rest, ok := bytes.CutPrefix(body, protoMagic)
	if !ok {
		return nil, fmt.Errorf("decode answer: no protobuf object")
	}
	var u runtime.Unknown
	if err := u.Unmarshal(rest); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if u.Kind == "Status" && u.APIVersion == "v1" && !wantsStatus {
		st := &metav1.Status{}
		return st, st.Unmarshal(u.Raw)
	}
	m, ok := obj.(wire)
	if !ok {
		return nil, fmt.Errorf("decode answer: %T has no protobuf form", obj)
	}
	if err := m.Unmarshal(u.Raw); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return nil, nil
}

// decodeStatus returns the metav1.Status that body holds, or nil.
func decodeStatus(contentType string, body []byte) *metav1.Status {
	st := &metav1.Status{}
	if _, err := decode(contentType, body, st); err != nil {
		return nil
	}
	return st
}

func isProto(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == mediaProto
}

// accept returns the header that asks for obj's best encoding; stream is for watches.
func accept(obj runtime.Object, stream bool) http.Header {
	proto, plain := mediaProto, mediaJSON
	if stream {
		proto, plain = proto+";stream=watch", plain+";stream=watch, "+mediaJSON
	}
	if _, ok := obj.(wire); ok {
		return http.Header{"Accept": {proto + ", " + plain}}
	}
	return http.Header{"Accept": {plain}}
}
