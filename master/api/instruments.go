package api

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// instruments count what this peer does with requests. Names and labels are Kubernetes', so that what was made for it works. Labels are only
// of what is served: what clients make up does not become a series.
type instruments struct {
	set      *metrics.Set
	series   sync.Map // of seriesKey to *series
	inflight [2]atomic.Int64
	long     sync.Map // of the labels of a long-running request to *atomic.Int64
}

type seriesKey struct {
	verb, group, version, resource, subresource, scope string
	code                                               int
}

type series struct {
	requests *metrics.Counter
	duration *metrics.PrometheusHistogram // nil for what lasts as long as the client wants
}

// durations are the upper bounds of Kubernetes' histogram of requests, in seconds.
var durations = []float64{.005, .025, .05, .1, .2, .4, .6, .8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}

func newInstruments() *instruments {
	metrics.ExposeMetadata(true) // what type each is
	i := &instruments{set: metrics.NewSet()}
	for mutating, kind := range []string{"readOnly", "mutating"} {
		i.set.NewGauge(fmt.Sprintf("apiserver_current_inflight_requests{request_kind=%q}", kind), func() float64 {
			return float64(i.inflight[mutating].Load())
		})
	}
	return i
}

// withInstruments counts requests, and how long they take.
func (s *Server) withInstruments(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		begun, counted := time.Now(), &countedWriter{ResponseWriter: w, code: http.StatusOK}
		r.answer = counted
		key := s.seriesOf(r)
		now := &s.counts.inflight[0]
		if long := key.verb == "WATCH" || key.verb == "CONNECT"; long {
			now = s.counts.longRunning(key)
		} else if r.isWrite() {
			now = &s.counts.inflight[1]
		}
		now.Add(1)
		defer func() {
			now.Add(-1)
			key.code = counted.code
			one := s.counts.of(key)
			one.requests.Inc()
			if one.duration != nil {
				one.duration.UpdateDuration(begun)
			}
		}()
		if h, ok := w.(http.Hijacker); ok { // of HTTP/1.1, for conversations with pods
			next(hijackedWriter{counted, h}, r)
			return
		}
		next(counted, r)
	}
}

// verbs are Kubernetes' names in metrics of what is done to resources.
var verbs = map[string]string{
	"get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
	"deletecollection": "DELETECOLLECTION", "head": "GET", "post": "POST", "put": "PUT",
}

func (s *Server) seriesOf(r *request) seriesKey {
	key := seriesKey{verb: verbs[r.Verb]}
	if key.verb == "" {
		key.verb = "OTHER"
	}
	k, ok := s.reg.Kinds().ByResource(schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource})
	if !ok || r.Subresource != "" && !k.HasSubresource(r.Subresource) {
		return key
	}
	key.group, key.version, key.resource, key.subresource = r.Group, r.Version, r.Resource, r.Subresource
	switch {
	case r.Name != "" || key.verb == "POST" && r.Subresource != "":
		key.scope = "resource"
	case r.Namespace != "":
		key.scope = "namespace"
	default:
		key.scope = "cluster"
	}
	if r.Subresource != "log" && (streams(r.Resource, r.Subresource) || proxied(r.Resource, r.Subresource)) {
		key.verb = "CONNECT"
	}
	return key
}

func (k seriesKey) labels() string {
	return fmt.Sprintf(`component="apiserver",group=%q,resource=%q,scope=%q,subresource=%q,verb=%q,version=%q`, k.group, k.resource, k.scope, k.subresource, k.verb, k.version)
}

func (i *instruments) of(k seriesKey) *series {
	if s, ok := i.series.Load(k); ok {
		return s.(*series)
	}
	one := &series{requests: i.set.GetOrCreateCounter(fmt.Sprintf(`apiserver_request_total{code="%d",dry_run="",%s}`, k.code, k.labels()))}
	if k.verb != "WATCH" && k.verb != "CONNECT" {
		one.duration = i.set.GetOrCreatePrometheusHistogramExt(`apiserver_request_duration_seconds{dry_run="",`+k.labels()+`}`, durations)
	}
	i.series.Store(k, one)
	return one
}

func (i *instruments) longRunning(k seriesKey) *atomic.Int64 {
	labels := k.labels()
	if n, ok := i.long.Load(labels); ok {
		return n.(*atomic.Int64)
	}
	n, _ := i.long.LoadOrStore(labels, &atomic.Int64{})
	count := n.(*atomic.Int64)
	i.set.GetOrCreateGauge("apiserver_longrunning_requests{"+labels+"}", func() float64 { return float64(count.Load()) })
	return count
}

func (s *Server) serveInstruments(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.counts.set.WritePrometheus(w)
	s.gates.write(w)
	if s.cfg.Metrics != nil {
		s.cfg.Metrics(w)
	}
	metrics.WriteProcessMetrics(w)
}

// WriteGauge writes a figure, or several that differ in their labels, as Prometheus reads it. Labels are as between braces; empty
// for none.
func WriteGauge(w io.Writer, name string, values map[string]float64) {
	fmt.Fprintf(w, "# TYPE %s gauge\n", name)
	for _, labels := range slices.Sorted(maps.Keys(values)) {
		if labels == "" {
			fmt.Fprintf(w, "%s %v\n", name, values[labels])
			continue
		}
		fmt.Fprintf(w, "%s{%s} %v\n", name, labels, values[labels])
	}
}

// countedWriter notes the code of the answer.
type countedWriter struct {
	http.ResponseWriter
	code int
	told bool
}

// WriteHeader implements http.ResponseWriter.
func (w *countedWriter) WriteHeader(code int) {
	if !w.told && (code >= 200 || code == http.StatusSwitchingProtocols) {
		w.code, w.told = code, true
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher.
func (w *countedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// hijackedWriter is a countedWriter whose connection can be taken over.
type hijackedWriter struct {
	*countedWriter
	http.Hijacker
}
