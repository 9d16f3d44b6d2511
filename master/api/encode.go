package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	shoalapi "shoal/internal/api"
	"shoal/master/registry"
)

// gzipFrom is the size from which answers are compressed, for clients that accept it.
const gzipFrom = 128 << 10

var protoMagic = []byte{'k', '8', 's', 0}

// writeBody sends a complete body.
func (s *Server) writeBody(w http.ResponseWriter, r *request, media string, code int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-cache, private")
	if len(body) >= gzipFrom && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		w.WriteHeader(code)
		s.compress(w, r, body)
		return
	}
	r.turns.seat.Leave() // the rest takes as long as the client does
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// zippers are reused because each has 800 KiB: what a flood of lists leaves to be collected delays everybody.
var zippers = sync.Pool{New: func() any {
	zw, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for an unknown level
	return zw
}}

// part is how much is compressed, and sent, at once.
const part = 32 << 10

// compress sends body in parts: it is long work, between which others get their turn, and so they do while the client takes what there is.
func (s *Server) compress(w http.ResponseWriter, r *request, body []byte) {
	out, zw := bufio.NewWriterSize(yielding{w, r}, part), zippers.Get().(*gzip.Writer)
	defer zippers.Put(zw)
	zw.Reset(out)
	for b := range slices.Chunk(body, part) {
		if _, err := zw.Write(b); err != nil {
			return
		}
		r.turns.seat.Pause()
	}
	_ = zw.Close()
	_ = out.Flush()
}

// writeObject answers with an object that no entry holds: a Status, a Scale, a list of few.
func (s *Server) writeObject(w http.ResponseWriter, r *request, f format, code int, obj runtime.Object) {
	body, err := encodeObject(f, obj)
	if err != nil {
		s.log.Error("object cannot be encoded", "path", r.URL.Path, "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.writeBody(w, r, f.media, code, body)
}

// encodeObject encodes obj, whose apiVersion and kind are set.
func encodeObject(f format, obj runtime.Object) ([]byte, error) {
	if f.media == mediaProto {
		m, ok := obj.(interface{ Marshal() ([]byte, error) })
		if ok {
			raw, err := m.Marshal()
			if err != nil {
				return nil, err
			}
			return envelope(obj.GetObjectKind().GroupVersionKind(), raw), nil
		}
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	return finishJSON(f, b)
}

// finishJSON makes of an object's JSON what f asks for.
func finishJSON(f format, b []byte) ([]byte, error) {
	switch {
	case f.media == mediaYAML:
		return yaml.JSONToYAML(b)
	case f.pretty:
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "  "); err != nil {
			return nil, err
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	return b, nil
}

// writeEntry answers with one stored object, from its encoded form where there is one.
func (s *Server) writeEntry(w http.ResponseWriter, r *request, code int, e *registry.Entry) {
	body, err := s.encodeEntry(r, e)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeBody(w, r, r.format.media, code, body)
}

func (s *Server) encodeEntry(r *request, e *registry.Entry) ([]byte, error) {
	switch {
	case r.format.as == asTable:
		t, err := s.table(r, []*registry.Entry{e}, e.Object.GetResourceVersion(), true)
		if err != nil {
			return nil, err
		}
		return encodeObject(r.format, t)
	case r.format.as == asPartial:
		return encodeObject(r.format, partial(e, r.format.version))
	case r.format.media == mediaProto:
		raw, err := e.Proto()
		if err != nil {
			return nil, err
		}
		return envelope(r.kind.GroupVersionKind, raw), nil
	}
	b, err := e.JSON()
	if err != nil {
		return nil, err
	}
	return finishJSON(r.format, b)
}

// envelope wraps a protobuf message as Kubernetes' wire has it: a magic, and a runtime.Unknown that names the type.
func envelope(gvk schema.GroupVersionKind, raw []byte) []byte {
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}, Raw: raw}
	out := make([]byte, len(protoMagic)+u.Size())
	copy(out, protoMagic)
	// The sizes are exact, so this cannot fail.
	_, _ = u.MarshalTo(out[len(protoMagic):])
	return out
}

// partial returns an object's metadata in the version that the client asked for.
func partial(e *registry.Entry, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "PartialObjectMetadata"},
		ObjectMeta: shoalapi.MetaOf(e.Object),
	}
}

// bufs are buffers of lists and watch frames, reused because they are large.
var bufs = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// writeList answers with a list, written around the encoded forms of its items.
func (s *Server) writeList(w http.ResponseWriter, r *request, es *registry.Entries) {
	meta := metav1.ListMeta{ResourceVersion: es.Rev.String(), Continue: es.Continue, RemainingItemCount: es.Remaining}
	if r.format.as != asObject {
		s.writeShapedList(w, r, es, meta)
		return
	}
	buf := bufs.Get().(*bytes.Buffer)
	defer func() {
		buf.Reset()
		bufs.Put(buf)
	}()
	var err error
	if r.format.media == mediaProto {
		err = protoList(buf, r, meta, es.Items)
	} else {
		err = jsonList(buf, r, meta, es.Items)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body := buf.Bytes()
	if r.format.media != mediaProto {
		if body, err = finishJSON(r.format, body); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.writeBody(w, r, r.format.media, http.StatusOK, body)
}

func (s *Server) writeShapedList(w http.ResponseWriter, r *request, es *registry.Entries, meta metav1.ListMeta) {
	if r.format.as == asTable {
		t, err := s.table(r, es.Items, "", true)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		t.ListMeta = meta
		s.writeObject(w, r, r.format, http.StatusOK, t)
		return
	}
	out := &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + r.format.version, Kind: "PartialObjectMetadataList"},
		ListMeta: meta, Items: make([]metav1.PartialObjectMetadata, 0, len(es.Items)),
	}
	for _, e := range es.Items {
		out.Items = append(out.Items, *partial(e, r.format.version))
	}
	s.writeObject(w, r, r.format, http.StatusOK, out)
}

func jsonList(buf *bytes.Buffer, r *request, meta metav1.ListMeta, items []*registry.Entry) error {
	m, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	gvk := r.kind.GroupVersionKind
	buf.WriteString(`{"kind":"` + gvk.Kind + `List","apiVersion":"` + gvk.GroupVersion().String() + `","metadata":`)
	buf.Write(m)
	buf.WriteString(`,"items":[`)
	for i, e := range items {
		if i > 0 {
			buf.WriteByte(',')
		}
		b, err := e.JSON()
		if err != nil {
			return err
		}
		buf.Write(b)
		r.pause(i)
	}
	buf.WriteString("]}")
	return nil
}

// protoList writes a list message: every Kubernetes list has its metadata as field 1 and its items as field 2.
func protoList(buf *bytes.Buffer, r *request, meta metav1.ListMeta, items []*registry.Entry) error {
	const metaTag, itemsTag = 1<<3 | 2, 2<<3 | 2
	m, err := meta.Marshal()
	if err != nil {
		return err
	}
	size := 1 + uvarintLen(len(m)) + len(m)
	raws := make([][]byte, len(items))
	for i, e := range items {
		if raws[i], err = e.Proto(); err != nil {
			return err
		}
		size += 1 + uvarintLen(len(raws[i])) + len(raws[i])
		r.pause(i)
	}
	gvk := r.kind.GroupVersionKind
	gvk.Kind += "List"
	raw := make([]byte, 0, size)
	raw = appendField(raw, metaTag, m)
	for _, b := range raws {
		raw = appendField(raw, itemsTag, b)
	}
	buf.Write(envelope(gvk, raw))
	return nil
}

func appendField(to []byte, tag byte, b []byte) []byte {
	to = append(to, tag)
	to = binary.AppendUvarint(to, uint64(len(b)))
	return append(to, b...)
}

func uvarintLen(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n))
}

// writeJSON answers with what is no API object.
func (s *Server) writeJSON(w http.ResponseWriter, r *request, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeBody(w, r, mediaJSON, code, b)
}
