package api

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDecodeSaysWhatItDoesNotKnow(t *testing.T) {
	c := NewCodecs(NewScheme())
	const (
		unknown = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"foo":1}`
		twice   = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"},"data":{"k":"w"}}`
		yaml    = "metadata:\n  name: a\nfoo: 1\n"
	)
	for _, tc := range []struct {
		name, body, media, validation string
		warnings                      []string
		bad                           string
	}{
		{"warned of", unknown, MediaJSON, "", []string{`unknown field "foo"`}, ""},
		{"warned of by name", unknown, MediaJSON, metav1.FieldValidationWarn, []string{`unknown field "foo"`}, ""},
		{"ignored", unknown, MediaJSON, metav1.FieldValidationIgnore, nil, ""},
		{
			"refused", unknown, MediaJSON, metav1.FieldValidationStrict, nil,
			`ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo"`,
		},
		{"given twice", twice, MediaJSON, "", []string{`duplicate field "data"`}, ""},
		{"in YAML", yaml, MediaYAML + "; charset=utf-8", "", []string{`unknown field "foo"`}, ""},
		{"a number for a text", `{"data":{"k":1}}`, MediaJSON, "", nil, "cannot unmarshal"},
		{"not JSON", `]`, MediaJSON, "", nil, "the object provided is unrecognized"},
		{"empty", ``, MediaJSON, "", nil, "<empty>"},
		{"another kind", `{"apiVersion":"v1","kind":"Secret"}`, MediaJSON, "", nil, "cannot be handled as a ConfigMap"},
		{"an unknown kind", `{"apiVersion":"v1","kind":"Nope"}`, MediaJSON, "", nil, `Nope in version "v1" cannot be handled as a ConfigMap`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, warnings, err := c.Decode([]byte(tc.body), tc.media, tc.validation, ConfigMaps.GroupVersionKind)
			if tc.bad != "" {
				if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), tc.bad) {
					t.Fatalf("got %v, want a bad request saying %q", err, tc.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.warnings, warnings); diff != "" {
				t.Error(diff)
			}
			if o.(*corev1.ConfigMap).Name != "a" {
				t.Errorf("got %v", o)
			}
		})
	}
}

func TestDecodeRefusesUnknownMediaTypes(t *testing.T) {
	_, _, err := NewCodecs(NewScheme()).Decode([]byte("x"), "text/plain", "", Pods.GroupVersionKind)
	if !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("got %v", err)
	}
}

func TestEveryKindSurvivesEveryMediaType(t *testing.T) {
	c := NewCodecs(NewScheme())
	for _, k := range Kinds() {
		o := k.New()
		o.SetName("a")
		o.SetLabels(map[string]string{"l": "m"})
		o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
		for _, media := range []string{MediaJSON, MediaYAML, MediaProtobuf} {
			s, ok := c.Encoder(media)
			if !ok {
				t.Fatalf("no encoder of %s", media)
			}
			var b bytes.Buffer
			if err := s.Encode(o, &b); err != nil {
				t.Fatalf("%s as %s: %v", k.Kind, media, err)
			}
			got, warnings, err := c.Decode(b.Bytes(), media, "", k.GroupVersionKind)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%s as %s: %v %v", k.Kind, media, warnings, err)
			}
			if !isSame(o, got) {
				t.Errorf("%s as %s came back as %v", k.Kind, media, got)
			}
		}
	}
}

func TestParametersDecode(t *testing.T) {
	var o metav1.ListOptions
	query := url.Values{"labelSelector": {"a=b"}, "limit": {"5"}, "watch": {"true"}}
	if err := NewCodecs(NewScheme()).Parameters.DecodeParameters(query, metav1.Unversioned, &o); err != nil {
		t.Fatal(err)
	}
	if o.LabelSelector != "a=b" || o.Limit != 5 || !o.Watch {
		t.Errorf("got %+v", o)
	}
	var logs corev1.PodLogOptions
	query = url.Values{"follow": {"true"}, "tailLines": {"3"}}
	if err := NewCodecs(NewScheme()).Parameters.DecodeParameters(query, corev1.SchemeGroupVersion, &logs); err != nil {
		t.Fatal(err)
	}
	if !logs.Follow || logs.TailLines == nil || *logs.TailLines != 3 {
		t.Errorf("got %+v", logs)
	}
}

func TestFieldLabelsAreThoseOfTheKind(t *testing.T) {
	s := NewScheme()
	for _, c := range []struct {
		kind  *Kind
		label string
		ok    bool
	}{
		{Pods, "spec.nodeName", true},
		{Pods, "metadata.namespace", true},
		{Pods, "spec.foo", false},
		{Nodes, "metadata.namespace", false},
		{ConfigMaps, "metadata.name", true},
		{ConfigMaps, "status.phase", false},
		{Events, "involvedObject.name", true},
	} {
		_, _, err := s.ConvertFieldLabel(c.kind.GroupVersionKind, c.label, "x")
		if (err == nil) != c.ok {
			t.Errorf("%s of %s: %v", c.label, c.kind.Kind, err)
		}
	}
}

// FuzzDecode gives any bytes the whole way of a new object: nothing may panic, and what was accepted can be stored.
func FuzzDecode(f *testing.F) {
	for i, body := range []string{
		`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":1}]}]}}`,
		`{"spec":{"type":"LoadBalancer","clusterIPs":["::1"],"ports":[{"port":1}]}}`,
		`{"spec":{"template":{"spec":{"volumes":[{"name":"v","projected":{"sources":[{}]}}]}}}}`,
		`{"subsets":[{"addresses":[{"ip":"1"}]}]}`,
		"metadata:\n  name: a\n",
	} {
		f.Add([]byte(body), uint8(i))
	}
	codecs := NewCodecs(NewScheme())
	kinds := Kinds()
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		k := kinds[int(which)%len(kinds)]
		media := []string{MediaJSON, MediaYAML, MediaProtobuf}[int(which)/len(kinds)%3]
		decoded, _, err := codecs.Decode(data, media, "", k.GroupVersionKind)
		if err != nil {
			return
		}
		o := decoded.(Object)
		if k.Default != nil {
			k.Default(o)
		}
		old := o.DeepCopyObject().(Object)
		if k.PrepareCreate != nil {
			k.PrepareCreate(o)
		}
		k.ValidateMeta(o)
		if k.Validate != nil {
			k.Validate(o)
			k.ValidateUpdate(o, old)
		}
		if k.ValidateStatus != nil {
			k.ValidateStatus(o, old)
		}
		if k.PrepareUpdate != nil {
			k.PrepareUpdate(o, old)
		}
		if got := k.Cells(o, time.Unix(0, 0)); len(got) != len(k.Columns) {
			t.Errorf("%d cells in %d columns", len(got), len(k.Columns))
		}
		if _, err := o.(interface{ Marshal() ([]byte, error) }).Marshal(); err != nil {
			t.Errorf("accepted but cannot be stored: %v", err)
		}
	})
}
