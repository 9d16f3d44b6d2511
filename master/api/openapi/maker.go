package openapi

import (
	"bytes"
	"compress/gzip"
	"reflect"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maker is what it takes to make documents. It serves one call of Find, which may need all of v3, and is thrown away: a
// compressor alone is nearly a megabyte.
type maker struct {
	types map[schema.GroupVersionKind]reflect.Type
	kinds map[reflect.Type][]schema.GroupVersionKind
	facts facts
	zip   *gzip.Writer
	body  []byte // of the document before
}

// bodySize is about that of the largest document.
const bodySize = 1 << 20

func newMaker(s *runtime.Scheme) *maker {
	m := &maker{
		types: s.AllKnownTypes(), kinds: map[reflect.Type][]schema.GroupVersionKind{}, facts: readFacts(),
		zip: gzip.NewWriter(nil), body: make([]byte, 0, bodySize),
	}
	for gvk, t := range m.types {
		if gvk.Version != runtime.APIVersionInternal {
			m.kinds[t] = append(m.kinds[t], gvk)
		}
	}
	return m
}

// document writes a tree in a form.
func (m *maker) document(f form, tree object) (*Document, error) {
	body, err := m.body[:0], error(nil)
	switch f {
	case formProto2:
		body, err = appendMessage(body, (&openapiv2.Document{}).ProtoReflect().Descriptor(), tree)
	case formProto3:
		body, err = appendMessage(body, (&openapiv3.Document{}).ProtoReflect().Descriptor(), tree)
	default:
		body = appendJSON(body, tree)
	}
	if err != nil {
		return nil, err
	}
	m.body = body
	var gz bytes.Buffer
	m.zip.Reset(&gz)
	_, _ = m.zip.Write(body) // a buffer takes everything
	_ = m.zip.Close()
	return &Document{media: string(f), hash: hashOf(body), gz: bytes.Clone(gz.Bytes()), size: len(body)}, nil
}
