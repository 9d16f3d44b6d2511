package client_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
)

func newHTTP(t *testing.T, bases ...string) *client.HTTP {
	t.Helper()
	h, err := client.NewHTTP(client.HTTPConfig{BaseURLs: bases, UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func answer(w http.ResponseWriter, code int, o any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}

func status(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}
}

// deadAddress is one that refuses connections.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

var key = client.Key{Namespace: "default", Name: "a"}

func configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", ResourceVersion: "7"},
	}
}

func TestTheNextServerIsTriedWhenOneCannotBeConnectedTo(t *testing.T) {
	var posts atomic.Int32
	live := serve(t, func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		answer(w, http.StatusCreated, configMap())
	})
	h := newHTTP(t, deadAddress(t), live)
	for range 2 {
		if _, err := h.Create(t.Context(), api.ConfigMaps, configMap(), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if posts.Load() != 2 || h.Base().String() != live {
		t.Errorf("%d posts, last good %s", posts.Load(), h.Base())
	}
}

func TestARequestFollowsOneRedirect(t *testing.T) {
	var round string
	master := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Query().Get("fieldManager") != "me" || !strings.Contains(string(body), "ConfigMap") {
			t.Errorf("the Master got %s %s %q", r.Method, r.URL, body)
		}
		answer(w, http.StatusCreated, configMap())
	})
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		to := master
		if r.URL.Query().Get("fieldManager") == "round" {
			to = round
		}
		w.Header().Set("Location", to+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	round = other
	h := newHTTP(t, other)
	if _, err := h.Create(t.Context(), api.ConfigMaps, configMap(), client.CreateOptions{FieldManager: "me"}); err != nil {
		t.Error(err)
	}
	if _, err := h.Create(t.Context(), api.ConfigMaps, configMap(), client.CreateOptions{FieldManager: "round"}); err == nil {
		t.Error("a server that sends everybody to itself counts as an answer")
	}
	if h.Base().String() != other {
		t.Errorf("asks %s from now on", h.Base())
	}
}

func TestAWriteThatMayHaveArrivedGoesToNoOtherServer(t *testing.T) {
	var second atomic.Int32
	first := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	})
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		second.Add(1)
		answer(w, http.StatusOK, configMap())
	})
	_, err := newHTTP(t, first, other).Create(t.Context(), api.ConfigMaps, configMap(), client.CreateOptions{})
	if !apierrors.IsTimeout(err) || second.Load() != 0 {
		t.Errorf("error %v, %d requests at the other", err, second.Load())
	}
	if _, err := newHTTP(t, first, other).Get(t.Context(), api.ConfigMaps, key, client.GetOptions{}); err != nil || second.Load() != 1 {
		t.Errorf("a read: error %v, %d requests at the other", err, second.Load())
	}
}

func TestNoServerIsServiceUnavailable(t *testing.T) {
	_, err := newHTTP(t, deadAddress(t)).Get(t.Context(), api.ConfigMaps, key, client.GetOptions{})
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("error %v", err)
	}
}

func TestABusyServerIsAskedAgainWhenThatIsSafe(t *testing.T) {
	var n atomic.Int32
	busy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "0")
			answer(w, http.StatusServiceUnavailable, status(503, metav1.StatusReasonServiceUnavailable, "no master"))
			return
		}
		answer(w, http.StatusOK, configMap())
	})
	h := newHTTP(t, busy)
	if _, err := h.Get(t.Context(), api.ConfigMaps, key, client.GetOptions{}); err != nil || n.Load() != 2 {
		t.Errorf("read: %v after %d requests", err, n.Load())
	}
	n.Store(0)
	_, err := h.Create(t.Context(), api.ConfigMaps, configMap(), client.CreateOptions{})
	if !apierrors.IsServiceUnavailable(err) || n.Load() != 1 {
		t.Errorf("create: %v after %d requests", err, n.Load())
	}
	n.Store(0)
	_, err = h.Patch(t.Context(), api.ConfigMaps, key, client.Patch{Type: types.JSONPatchType, Data: []byte("[]")}, client.PatchOptions{})
	if !apierrors.IsServiceUnavailable(err) || n.Load() != 1 {
		t.Errorf("JSON patch: %v after %d requests", err, n.Load())
	}
}

func TestErrorsKeepTheirReason(t *testing.T) {
	for reason, code := range map[metav1.StatusReason]int32{
		metav1.StatusReasonConflict: 409, metav1.StatusReasonAlreadyExists: 409, metav1.StatusReasonNotFound: 404,
		metav1.StatusReasonInvalid: 422, metav1.StatusReasonForbidden: 403, metav1.StatusReasonExpired: 410, metav1.StatusReasonTimeout: 504,
	} {
		for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
			s := status(code, reason, "because")
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", media)
				w.WriteHeader(int(code))
				_, _ = w.Write(body(media, &s))
			})
			_, err := newHTTP(t, url).Get(t.Context(), api.ConfigMaps, key, client.GetOptions{})
			if apierrors.ReasonForError(err) != reason || err.Error() != "because" {
				t.Errorf("%s as %s became %q: %v", reason, media, apierrors.ReasonForError(err), err)
			}
		}
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "a proxy's words", http.StatusBadGateway) })
	_, err := newHTTP(t, url).Get(t.Context(), api.ConfigMaps, key, client.GetOptions{})
	var st *apierrors.StatusError
	if !errors.As(err, &st) || st.ErrStatus.Code != http.StatusBadGateway {
		t.Errorf("an answer that is no Status: %v", err)
	}
}

// body encodes o as servers do.
func body(media string, o runtime.Object) []byte {
	if media == "application/json" {
		b, _ := json.Marshal(o)
		return b
	}
	raw, _ := o.(interface{ Marshal() ([]byte, error) }).Marshal()
	gvk := o.GetObjectKind().GroupVersionKind()
	u := runtime.Unknown{Raw: raw}
	u.APIVersion, u.Kind = gvk.ToAPIVersionAndKind()
	b, _ := u.Marshal()
	return append([]byte("k8s\x00"), b...)
}

func TestBothEncodingsOfAWatchAreRead(t *testing.T) {
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(media, func(t *testing.T) {
			send := make(chan []byte)
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("watch") != "true" || r.URL.Path != "/api/v1/namespaces/default/configmaps" {
					t.Errorf("asked %s", r.URL)
				}
				w.Header().Set("Content-Type", media+";stream=watch")
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				for b := range send {
					_, _ = w.Write(b)
					w.(http.Flusher).Flush()
				}
			})
			w, err := newHTTP(t, url).Watch(t.Context(), api.ConfigMaps, client.ListOptions{Namespace: "default", ResourceVersion: "1"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			var both bytes.Buffer
			both.Write(frame(media, watch.Added, configMap()))
			both.Write(frame(media, watch.Bookmark, configMap()))
			send <- both.Bytes()[:10] // events need not arrive whole
			send <- both.Bytes()[10:]
			var got []client.Event
			for len(got) < 2 {
				events, err := w.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, events...)
			}
			if got[0].Type != watch.Added || got[1].Type != watch.Bookmark || got[0].Object.GetName() != "a" || got[1].Object.GetResourceVersion() != "7" {
				t.Errorf("events %v", got)
			}
			gone := status(410, metav1.StatusReasonExpired, "too old")
			send <- frame(media, watch.Error, &gone)
			if _, err := w.Next(t.Context()); !apierrors.IsResourceExpired(err) {
				t.Errorf("error event became %v", err)
			}
			close(send)
		})
	}
}

func TestAWatchThatTheServerEndsIsEOF(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(frame("application/json", watch.Added, configMap()))
	})
	w, err := newHTTP(t, url).Watch(t.Context(), api.ConfigMaps, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatalf("error %v", err)
		}
	}
}

func frame(media string, typ watch.EventType, o runtime.Object) []byte {
	if media == "application/json" {
		return fmt.Appendf(nil, `{"type":%q,"object":%s}`+"\n", typ, body(media, o))
	}
	e := metav1.WatchEvent{Type: string(typ), Object: runtime.RawExtension{Raw: body(media, o)}}
	b, _ := e.Marshal()
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestRequestsSayWhatTheyMean(t *testing.T) {
	type request struct{ method, url, contentType, accept, agent string }
	var got request
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = request{r.Method, r.URL.String(), r.Header.Get("Content-Type"), r.Header.Get("Accept"), r.Header.Get("User-Agent")}
		answer(w, http.StatusOK, configMap())
	})
	h := newHTTP(t, url+"/")
	const proto = "application/vnd.kubernetes.protobuf"
	check := func(method, url, contentType string) {
		t.Helper()
		if got.method != method || got.url != url || got.contentType != contentType || !strings.HasPrefix(got.accept, proto) || got.agent != "test/1" {
			t.Errorf("sent %+v, want %s %s %s", got, method, url, contentType)
		}
	}
	ctx := t.Context()
	_, _ = h.Get(ctx, api.Nodes, client.Key{Name: "n"}, client.GetOptions{ResourceVersion: "5"})
	check("GET", "/api/v1/nodes/n?resourceVersion=5", "")
	_, _ = h.Create(ctx, api.ConfigMaps, configMap(), client.CreateOptions{DryRun: true, FieldManager: "me"})
	check("POST", "/api/v1/namespaces/default/configmaps?dryRun=All&fieldManager=me", proto)
	_, _ = h.Update(ctx, api.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p"}}, client.UpdateOptions{Subresource: "status"})
	check("PUT", "/api/v1/namespaces/x/pods/p/status", proto)
	_, _ = h.Patch(ctx, api.EndpointSlices, key, client.Patch{Type: types.ApplyPatchType, Data: []byte("{}")}, client.PatchOptions{Force: true, FieldManager: "me"})
	check("PATCH", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/a?fieldManager=me&force=true", "application/apply-patch+yaml")
	_, _ = h.Delete(ctx, api.ConfigMaps, key, client.DeleteOptions{})
	check("DELETE", "/api/v1/namespaces/default/configmaps/a", proto)
}

func TestWaitingForABusyServerEndsWithTheContext(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		answer(w, http.StatusTooManyRequests, status(429, metav1.StatusReasonTooManyRequests, "busy"))
	})
	ctx, cancel := contextWithTimeout(t, 10*time.Second)
	defer cancel()
	start := time.Now()
	_, err := newHTTP(t, url).Get(ctx, api.ConfigMaps, key, client.GetOptions{})
	if !apierrors.IsTooManyRequests(err) || time.Since(start) > 5*time.Second {
		t.Errorf("error %v after %s", err, time.Since(start))
	}
}
