package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/master/registry"
)

// watchFor is how long a watch lasts that asks for no end: at least this, at most twice.
const watchFor = 30 * time.Minute

// watch streams changes until the client goes, the time it asked for is over, or history is gone.
func (s *Server) watch(w http.ResponseWriter, r *request) {
	o, timeout, err := r.listOptions()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o.Continue, o.Limit = "", 0
	if timeout <= 0 {
		timeout = watchFor + rand.N(watchFor)
	}
	var from *registry.Watcher
	asked := o.ResourceVersion
	err = s.read(w, r, asked, func(ctx context.Context, rv string) (err error) {
		o.ResourceVersion = rv
		from, err = s.reg.WatchEntries(ctx, r.kind, o)
		return err
	})
	if apierrors.IsResourceExpired(err) {
		s.streamHead(w, r)
		_ = s.writeFrame(w, r, watch.Error, errorObject(err))
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer from.Close()
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	s.stream(ctx, w, r, from)
}

func (s *Server) streamHead(w http.ResponseWriter, r *request) {
	media := r.format.media
	if media == mediaProto {
		media += ";stream=watch"
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
}

// stream sends what the watch delivers. It has a seat while it encodes, and none while it waits for changes or for the client.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, r *request, from *registry.Watcher) {
	s.streamHead(w, r)
	r.turns.way.Leave()
	r.turns.seat.Linger()
	headers := true
	for {
		events, err := from.Next(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				_ = s.writeFrame(w, r, watch.Error, errorObject(err))
			}
			return
		}
		if s.writeEvents(w, r, events, headers) != nil {
			return
		}
		headers = false
	}
}

// watchPart is how much of a watch's events is sent at once.
const watchPart = 32 << 10

func (s *Server) writeEvents(w http.ResponseWriter, r *request, events []registry.WatchEvent, headers bool) error {
	buf := bufs.Get().(*bytes.Buffer)
	defer func() {
		buf.Reset()
		bufs.Put(buf)
	}()
	out := yielding{w, r}
	for _, ev := range events {
		f, err := s.watchObject(r, ev, headers)
		if err == nil {
			err = s.addFrame(buf, r, ev.Type, f)
		}
		if err != nil {
			_, _ = out.Write(buf.Bytes())
			s.log.Error("event cannot be encoded", "kind", r.kind.Kind, "ns", ev.Entry.Key.Namespace, "name", ev.Entry.Key.Name, "err", err)
			return err
		}
		headers = false
		if buf.Len() < watchPart {
			continue
		}
		if _, err := out.Write(buf.Bytes()); err != nil {
			return err
		}
		buf.Reset()
	}
	return out.flush(buf.Bytes())
}

// frame is the object of one event, in one of the forms that a stream may have it.
type frame struct {
	raw []byte         // encoded as the stream wants it
	obj runtime.Object // else
}

func errorObject(err error) frame {
	st := statusOf(err)
	return frame{obj: &st}
}

// watchObject returns an event's object in the stream's format.
func (s *Server) watchObject(r *request, ev registry.WatchEvent, headers bool) (frame, error) {
	e := ev.Entry
	switch {
	case r.format.as == asTable:
		t, err := s.table(r, []*registry.Entry{e}, e.Object.GetResourceVersion(), headers)
		return frame{obj: t}, err
	case r.format.as == asPartial:
		return frame{obj: partial(e, r.format.version)}, nil
	case r.format.media == mediaProto:
		raw, err := e.Proto()
		if err != nil {
			return frame{}, err
		}
		return frame{raw: envelope(r.kind.GroupVersionKind, raw)}, nil
	}
	b, err := e.JSON()
	return frame{raw: b}, err
}

// writeFrame writes one event.
func (s *Server) writeFrame(w http.ResponseWriter, r *request, t watch.EventType, f frame) error {
	buf := &bytes.Buffer{}
	if err := s.addFrame(buf, r, t, f); err != nil {
		return err
	}
	_, err := w.Write(buf.Bytes())
	return err
}

// addFrame adds one event to buf: a line of JSON, or a length and a protobuf message.
func (s *Server) addFrame(buf *bytes.Buffer, r *request, t watch.EventType, f frame) error {
	raw := f.raw
	if raw == nil {
		var err error
		if raw, err = encodeObject(format{media: r.format.media}, f.obj); err != nil {
			return err
		}
	}
	if r.format.media == mediaProto {
		ev := metav1.WatchEvent{Type: string(t), Object: runtime.RawExtension{Raw: raw}}
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(ev.Size()))
		b, err := ev.Marshal()
		if err != nil {
			return err
		}
		buf.Write(size[:])
		buf.Write(b)
	} else {
		buf.WriteString(`{"type":"` + string(t) + `","object":`)
		buf.Write(json.RawMessage(raw))
		buf.WriteString("}\n")
	}
	return nil
}
