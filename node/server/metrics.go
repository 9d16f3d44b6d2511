package server

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// exposition is text in Prometheus' format, a family after the other.
type exposition struct {
	order    []string
	families map[string]*bytes.Buffer
}

// add appends one sample. Labels are name, value, name, value.
func (e *exposition) add(name, kind, help string, value float64, labels ...string) {
	f := e.families[name]
	if f == nil {
		if e.families == nil {
			e.families = map[string]*bytes.Buffer{}
		}
		f = &bytes.Buffer{}
		e.families[name] = f
		e.order = append(e.order, name)
		fmt.Fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	f.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(f, `%s%s="%s"`, sep, labels[i], escape.Replace(labels[i+1]))
	}
	if len(labels) > 1 {
		f.WriteByte('}')
	}
	f.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// escape is what Prometheus' format wants of a label's value.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (e *exposition) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, name := range e.order {
		_, _ = e.families[name].WriteTo(w)
	}
}

func seconds(d time.Duration) float64 { return d.Seconds() }

// cadvisor serves what pods and their containers use, under the names and labels that cAdvisor gives them, on which dashboards for Kubernetes are built.
func (s *server) cadvisor(w http.ResponseWriter, r *http.Request) {
	if err := s.authorise(r, "", "", "stats"); err != nil {
		answer(w, err)
		return
	}
	var e exposition
	s.each(r, func(p *corev1.Pod, st runtime.Stats) {
		pod := []string{"namespace", p.Namespace, "pod", p.Name}
		images := map[string]string{}
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				images[list[i].Name] = list[i].Image
			}
		}
		// A pod's own figures have an empty container, as cAdvisor's have.
		write := func(name string, u runtime.ContainerStats) {
			l := append([]string{"container", name, "image", images[name]}, pod...)
			e.add("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", seconds(u.CPU), l...)
			e.add("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", float64(u.Memory), l...)
			e.add("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed.", float64(u.Usage), l...)
			e.add("container_threads", "gauge", "Number of threads running inside the container.", float64(u.PIDs), l...)
			if name == "" {
				return
			}
			e.add("container_oom_events_total", "counter", "Count of out of memory events observed for the container.", float64(u.OOMKills), l...)
			e.add("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", float64(u.Started.Unix()), l...)
		}
		write("", runtime.ContainerStats{CPU: st.CPU, Memory: st.Memory, Usage: st.Usage, PIDs: st.PIDs})
		for _, name := range slices.Sorted(maps.Keys(st.Containers)) {
			write(name, st.Containers[name])
		}
		if n := st.Network; n != nil {
			l := append([]string{"interface", "eth0"}, pod...)
			for _, x := range []struct {
				name, help string
				value      uint64
			}{
				{"receive_bytes", "Cumulative count of bytes received.", n.RxBytes},
				{"receive_packets", "Cumulative count of packets received.", n.RxPackets},
				{"receive_errors", "Cumulative count of errors encountered while receiving.", n.RxErrors},
				{"transmit_bytes", "Cumulative count of bytes transmitted.", n.TxBytes},
				{"transmit_packets", "Cumulative count of packets transmitted.", n.TxPackets},
				{"transmit_errors", "Cumulative count of errors encountered while transmitting.", n.TxErrors},
			} {
				e.add("container_network_"+x.name+"_total", "counter", x.help, float64(x.value), l...)
			}
		}
	})
	total, _ := MachineMemory()
	e.add("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", float64(total))
	e.write(w)
}

// resource serves what metrics-server and its like read of a kubelet: CPU and memory of containers, pods and the machine.
func (s *server) resource(w http.ResponseWriter, r *http.Request) {
	if err := s.authorise(r, "", "", "stats"); err != nil {
		answer(w, err)
		return
	}
	var e exposition
	total, available := MachineMemory()
	e.add("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds", seconds(machineCPU()))
	e.add("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes", float64(total-available))
	s.each(r, func(p *corev1.Pod, st runtime.Stats) {
		pod := []string{"namespace", p.Namespace, "pod", p.Name}
		e.add("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds", seconds(st.CPU), pod...)
		e.add("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", float64(st.Memory), pod...)
		for _, name := range slices.Sorted(maps.Keys(st.Containers)) {
			u, l := st.Containers[name], append([]string{"container", name}, pod...)
			e.add("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds", seconds(u.CPU), l...)
			e.add("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", float64(u.Memory), l...)
			e.add("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds", float64(u.Started.UnixNano())/1e9, l...)
		}
	})
	e.add("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise", 0)
	e.write(w)
}

// each calls f with every pod that has figures, in the order of their names.
func (s *server) each(r *http.Request, f func(*corev1.Pod, runtime.Stats)) {
	pods := s.cfg.Pods.List()
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	_, all := s.sample(r.Context(), pods)
	for _, p := range pods {
		if st, ok := all[string(p.UID)]; ok {
			f(p, st)
		}
	}
}
