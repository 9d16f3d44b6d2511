package api

import (
	"errors"
	"fmt"
	"mime"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// Media types that bodies may have.
const (
	MediaJSON     = runtime.ContentTypeJSON
	MediaYAML     = runtime.ContentTypeYAML
	MediaProtobuf = runtime.ContentTypeProtobuf
)

// Codecs reads and writes API objects in every media type. It is safe for concurrent use.
type Codecs struct {
	Scheme     *runtime.Scheme
	Parameters runtime.ParameterCodec // query strings to ListOptions, PodLogOptions and so on
	JSON       runtime.Serializer
	PrettyJSON runtime.Serializer
	YAML       runtime.Serializer
	Protobuf   runtime.Serializer

	strictJSON, strictYAML runtime.Serializer
}

// NewCodecs returns codecs over a scheme, usually NewScheme's.
func NewCodecs(s *runtime.Scheme) *Codecs {
	text := func(o json.SerializerOptions) runtime.Serializer {
		return json.NewSerializerWithOptions(json.DefaultMetaFactory, s, s, o)
	}
	return &Codecs{
		Scheme:     s,
		Parameters: runtime.NewParameterCodec(s),
		JSON:       text(json.SerializerOptions{StreamingCollectionsEncoding: true}),
		PrettyJSON: text(json.SerializerOptions{Pretty: true}),
		YAML:       text(json.SerializerOptions{Yaml: true}),
		Protobuf:   protobuf.NewSerializerWithOptions(s, s, protobuf.SerializerOptions{StreamingCollectionsEncoding: true}),
		strictJSON: text(json.SerializerOptions{Strict: true}),
		strictYAML: text(json.SerializerOptions{Strict: true, Yaml: true}),
	}
}

// Encoder returns the serializer of a media type (parameters are ignored), or false.
func (c *Codecs) Encoder(mediaType string) (runtime.Serializer, bool) {
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	switch mediaType {
	case "", MediaJSON:
		return c.JSON, true
	case MediaYAML:
		return c.YAML, true
	case MediaProtobuf:
		return c.Protobuf, true
	}
	return nil, false
}

func (c *Codecs) decoder(mediaType, fieldValidation string) (runtime.Decoder, bool) {
	s, ok := c.Encoder(mediaType)
	if fieldValidation != metav1.FieldValidationIgnore {
		switch s {
		case c.JSON:
			return c.strictJSON, true
		case c.YAML:
			return c.strictYAML, true
		}
	}
	return s, ok
}

// Decode reads one object that must be of kind want; a body without kind is taken for one. fieldValidation is
// Ignore, Warn (also the meaning of empty) or Strict: what to do about unknown and repeated fields. Warn's findings
// are the warnings. Errors are StatusErrors: bad request, or unsupported media type.
func (c *Codecs) Decode(data []byte, mediaType, fieldValidation string, want schema.GroupVersionKind) (runtime.Object, []string, error) {
	d, ok := c.decoder(mediaType, fieldValidation)
	if !ok {
		return nil, nil, &apierrors.StatusError{ErrStatus: unsupportedMediaType(mediaType)}
	}
	if d == c.YAML || d == c.strictYAML {
		if err := CheckYAML(data); err != nil {
			return nil, nil, err
		}
	}
	o, got, err := d.Decode(data, &want, nil)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	switch {
	case err == nil:
	case isStrict && o != nil && fieldValidation != metav1.FieldValidationStrict:
	default:
		return nil, nil, decodeError(err, data, want, got)
	}
	if *got != want {
		return nil, nil, mismatch(want, *got)
	}
	o.GetObjectKind().SetGroupVersionKind(want)
	if !isStrict {
		return o, nil, nil
	}
	var warnings []string
	for _, e := range strict.Errors() {
		warnings = append(warnings, e.Error())
	}
	return o, warnings, nil
}

func decodeError(err error, data []byte, want schema.GroupVersionKind, got *schema.GroupVersionKind) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	if got != nil && got.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, excerpt(data)))
}

// excerpt shows the beginning of a body that could not be understood.
func excerpt(data []byte) string {
	const most = 30
	switch {
	case len(data) == 0:
		return "<empty>"
	case data[0] == '{' && len(data) > most:
		return string(data[:most]) + " ..."
	case data[0] == '{':
		return string(data)
	case len(data) > most:
		return fmt.Sprintf("%x", data[:most]) + " ..."
	}
	return fmt.Sprintf("%x", data)
}

func mismatch(want, got schema.GroupVersionKind) error {
	if got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: converting (%s) to (%s): unknown conversion", got.Kind, got.Version, want.Kind, got.Kind, want.Kind))
}

func unsupportedMediaType(got string) metav1.Status {
	return metav1.Status{
		Status: metav1.StatusFailure,
		Code:   415,
		Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s",
			MediaJSON, MediaYAML, MediaProtobuf) + suffixGot(got),
	}
}

func suffixGot(got string) string {
	if got == "" {
		return ""
	}
	return fmt.Sprintf(" (got %q)", got)
}
