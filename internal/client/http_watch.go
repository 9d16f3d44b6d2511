package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
)

// maxFrame bounds one protobuf watch event, far above the largest object the store takes.
const maxFrame = 64 << 20

// Watch implements Interface. The watch lives until Close, the server's end, or the end of ctx.
func (h *HTTP) Watch(ctx context.Context, k *api.Kind, o ListOptions) (Watch, error) {
	q := listQuery(o)
	q.Set("watch", "true")
	if o.Bookmarks {
		q.Set("allowWatchBookmarks", "true")
	}
	if o.SendInitialEvents != nil {
		q.Set("sendInitialEvents", fmt.Sprint(*o.SendInitialEvents))
	}
	ctx, cancel := context.WithCancel(ctx)
	res, err := h.call(ctx, http.MethodGet, Path(k, Key{Namespace: o.Namespace}, ""), q, accept(k.New(), true), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &httpWatch{kind: k, cancel: cancel, body: res.Body, reads: make(chan readResult), done: make(chan struct{})}
	r := bufio.NewReaderSize(res.Body, 64<<10)
	var next func() (string, []byte, error)
	if isProto(res.Header.Get("Content-Type")) {
		w.contentType = mediaProto
		next = func() (string, []byte, error) { return readFrame(r) }
	} else {
		w.contentType = mediaJSON
		d := json.NewDecoder(r)
		next = func() (string, []byte, error) {
			var e struct {
				Type   string
				Object json.RawMessage
			}
			err := d.Decode(&e)
			return e.Type, e.Object, err
		}
	}
	w.reading.Go(func() { w.read(next, r) })
	return w, nil
}

type httpWatch struct {
	kind        *api.Kind
	contentType string
	cancel      context.CancelFunc
	body        io.Closer
	closing     sync.Once
	reads       chan readResult
	done        chan struct{}
	reading     sync.WaitGroup
	err         error // what ended the stream, once it did
}

type readResult struct {
	events []Event
	err    error
}

// Next implements Watch.
func (w *httpWatch) Next(ctx context.Context) ([]Event, error) {
	if w.err != nil {
		return nil, w.err
	}
	select {
	case r := <-w.reads:
		w.err = r.err
		switch {
		case len(r.events) > 0:
			return r.events, nil
		case ctx.Err() != nil: // which also breaks off what is read, and either may be noticed first
			return nil, context.Cause(ctx)
		}
		return nil, r.err
	case <-w.done:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close implements Watch.
func (w *httpWatch) Close() {
	w.closing.Do(func() {
		close(w.done)
		w.cancel()
		w.body.Close()
	})
	w.reading.Wait()
}

// read hands over what the stream brings: one event, and with it every further one that has already arrived.
func (w *httpWatch) read(next func() (string, []byte, error), r *bufio.Reader) {
	for {
		var out readResult
		for {
			e, err := w.event(next())
			if err != nil {
				out.err = err
				break
			}
			out.events = append(out.events, e)
			// A JSON decoder has its own buffer behind r, so only frames can be told to be complete.
			if w.contentType != mediaProto || !frameBuffered(r) || len(out.events) >= 256 {
				break
			}
		}
		select {
		case w.reads <- out:
		case <-w.done:
			return
		}
		if out.err != nil {
			return
		}
	}
}

func (w *httpWatch) event(typ string, raw []byte, err error) (Event, error) {
	if err != nil {
		select {
		case <-w.done:
			return Event{}, io.EOF
		default:
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Event{}, io.EOF // servers end watches by closing; the client resumes from the last revision
		}
		return Event{}, statusError(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "watch broke off: "+err.Error())
	}
	if watch.EventType(typ) == watch.Error {
		st := decodeStatus(w.contentType, raw)
		if st == nil {
			return Event{}, internalError(errors.New("watch ended with an error that cannot be read"))
		}
		return Event{}, &apierrors.StatusError{ErrStatus: *st}
	}
	o := w.kind.New()
	st, err := decode(w.contentType, raw, o)
	if err != nil {
		return Event{}, internalError(err)
	}
	if st != nil {
		return Event{}, &apierrors.StatusError{ErrStatus: *st}
	}
	return Event{Type: watch.EventType(typ), Object: o}, nil
}

// readFrame reads one length-delimited metav1.WatchEvent.
func readFrame(r *bufio.Reader) (string, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return "", nil, fmt.Errorf("watch event of %d bytes", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return "", nil, err
	}
	var e metav1.WatchEvent
	if err := e.Unmarshal(frame); err != nil {
		return "", nil, err
	}
	return e.Type, e.Object.Raw, nil
}

// frameBuffered reports whether a whole frame can be read without waiting for the network.
func frameBuffered(r *bufio.Reader) bool {
	if r.Buffered() < 4 {
		return false
	}
	head, err := r.Peek(4)
	return err == nil && r.Buffered() >= 4+int(binary.BigEndian.Uint32(head))
}
