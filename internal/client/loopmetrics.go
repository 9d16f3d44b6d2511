package client

import (
	"fmt"
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// LoopMetrics are figures of the loops of a process, under Kubernetes' names of them. It is safe for concurrent use; nil counts nothing.
type LoopMetrics struct{ set *metrics.Set }

// NewLoopMetrics returns one without any figures yet.
func NewLoopMetrics() *LoopMetrics { return &LoopMetrics{metrics.NewSet()} }

// WritePrometheus writes all figures in Prometheus' text format.
func (m *LoopMetrics) WritePrometheus(w io.Writer) { m.set.WritePrometheus(w) }

// loopSeries are the figures of one loop while it runs.
type loopSeries struct {
	set             *metrics.Set
	depth           string
	work            *metrics.PrometheusHistogram
	retries, panics *metrics.Counter
}

// workBounds are the upper bounds of Kubernetes' histograms of work queues, in seconds.
var workBounds = []float64{1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, .1, 1, 10}

// begin starts to count for a loop. What is counted goes on when another loop of the same name runs later.
func (m *LoopMetrics) begin(name string, depth func() float64) *loopSeries {
	if m == nil {
		return nil
	}
	series := func(what string) string { return fmt.Sprintf("%s{name=%q}", what, name) }
	s := &loopSeries{
		set: m.set, depth: series("workqueue_depth"),
		work:    m.set.GetOrCreatePrometheusHistogramExt(series("workqueue_work_duration_seconds"), workBounds),
		retries: m.set.GetOrCreateCounter(series("workqueue_retries_total")),
		panics:  m.set.GetOrCreateCounter(series("shoal_reconcile_panics_total")),
	}
	m.set.UnregisterMetric(s.depth)
	m.set.NewGauge(s.depth, depth)
	return s
}

func (s *loopSeries) end() {
	if s != nil {
		s.set.UnregisterMetric(s.depth)
	}
}

func (s *loopSeries) worked(since time.Time, failed, panicked bool) {
	if s == nil {
		return
	}
	s.work.UpdateDuration(since)
	if failed {
		s.retries.Inc()
	}
	if panicked {
		s.panics.Inc()
	}
}
