package api

import (
	"fmt"
	"io"

	"shoal/internal/fair"
)

// write shows the gates under the names of Kubernetes' API Priority and Fairness; its priority levels are what is scarce here. Users are no
// labels: there may be any number of them.
func (g *gates) write(w io.Writer) {
	levels := []string{"compute", "large", "reads", "writes"}
	var stats []fair.Stats
	for _, gate := range []*fair.Gate{g.seats, g.large, g.reads, g.writes} {
		stats = append(stats, gate.Stats())
	}
	lasting, refused := g.lasting.Stats()
	family := func(name, kind string, of func(fair.Stats) any) {
		fmt.Fprintf(w, "# TYPE %s %s\n", name, kind)
		for i, level := range levels {
			fmt.Fprintf(w, "%s{priority_level=%q} %v\n", name, level, of(stats[i]))
		}
	}
	family("apiserver_flowcontrol_nominal_limit_seats", "gauge", func(s fair.Stats) any { return s.Seats })
	family("apiserver_flowcontrol_current_executing_requests", "gauge", func(s fair.Stats) any { return s.Held })
	fmt.Fprintf(w, "apiserver_flowcontrol_current_executing_requests{priority_level=\"lasting\"} %d\n", lasting)
	family("apiserver_flowcontrol_current_inqueue_requests", "gauge", func(s fair.Stats) any { return s.Waiting })
	family("apiserver_flowcontrol_dispatched_requests_total", "counter", func(s fair.Stats) any { return s.Granted })
	family("apiserver_flowcontrol_rejected_requests_total", "counter", func(s fair.Stats) any { return s.Rejected })
	fmt.Fprintf(w, "apiserver_flowcontrol_rejected_requests_total{priority_level=\"lasting\"} %d\n", refused)
	const wait = "apiserver_flowcontrol_request_wait_duration_seconds" // of those that waited
	fmt.Fprintf(w, "# TYPE %s summary\n", wait)
	for i, level := range levels {
		fmt.Fprintf(w, "%s_sum{priority_level=%q} %v\n", wait, level, stats[i].WaitedFor.Seconds())
		fmt.Fprintf(w, "%s_count{priority_level=%q} %d\n", wait, level, stats[i].Waited)
	}
}
