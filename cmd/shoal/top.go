package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"shoal/internal/api"
)

type topCmd struct {
	What      string        `arg:"" optional:"" enum:"nodes,node,no,pods,pod,po" default:"nodes" help:"nodes or pods."`
	Name      string        `arg:"" optional:"" help:"One of them."`
	Selector  string        `short:"l" help:"Label selector."`
	All       bool          `short:"A" name:"all-namespaces" help:"All namespaces."`
	SortBy    string        `enum:"name,cpu,memory" default:"name" help:"name, cpu or memory."`
	Output    string        `short:"o" placeholder:"FORM" enum:",json" default:"" help:"json, for programs."`
	Recommend bool          `help:"Watch pods for a while, and say what their containers should request."`
	For       time.Duration `default:"1m" help:"How long --recommend watches."`
}

const metricsPath = "/apis/metrics.k8s.io/v1beta1"

// used is a line: what something uses, and what that is of what it has or asked for; nil when it has no bound.
type used struct {
	Namespace string            `json:"namespace,omitempty"`
	Name      string            `json:"name"`
	CPU       resource.Quantity `json:"cpu"`
	Memory    resource.Quantity `json:"memory"`
	CPUOf     *int64            `json:"cpuPercent,omitempty"`
	MemoryOf  *int64            `json:"memoryPercent,omitempty"`
}

// Run shows what nodes or pods use now.
func (c topCmd) Run(ctx context.Context, g *Globals, std streams) error {
	pods := strings.HasPrefix(c.What, "po")
	switch {
	case c.Recommend && !pods:
		return usagef("what to request is said of pods: shoal top pods --recommend")
	case c.Recommend && c.For <= 0:
		return usagef("--for %v: how long to watch must be more than nothing, such as 1m", c.For)
	case c.Name != "" && c.Selector != "":
		return usagef("a name and -l do not go together")
	case c.All && !pods:
		return usagef("-A is for pods: nodes have no namespace")
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	namespace := g.Namespace
	if c.All {
		namespace = ""
	}
	m := meter{conn: conn, namespace: namespace, name: c.Name, query: url.Values{}}
	if c.Selector != "" {
		m.query.Set("labelSelector", c.Selector)
	}
	if c.Recommend {
		return c.recommend(ctx, &m, std)
	}
	var lines []used
	if pods {
		lines, err = m.pods(ctx)
	} else {
		lines, err = m.nodes(ctx)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(lines, func(a, b used) int {
		by := cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
		switch c.SortBy {
		case "cpu":
			return cmp.Or(b.CPU.Cmp(a.CPU), by)
		case "memory":
			return cmp.Or(b.Memory.Cmp(a.Memory), by)
		}
		return by
	})
	if c.Output == "json" {
		return encode(std.out, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintln(std.err, "No resources found.")
		return nil
	}
	return printUsed(std.out, lines, pods, c.All)
}

func printUsed(out io.Writer, lines []used, pods, all bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	of := "%"
	if pods {
		of = "% OF REQUEST"
	}
	head := fmt.Sprintf("NAME\tCPU(cores)\tCPU%s\tMEMORY(bytes)\tMEMORY%s", of, of)
	if all {
		head = "NAMESPACE\t" + head
	}
	fmt.Fprintln(w, head)
	percent := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprintf("%d%%", *n)
	}
	for _, l := range lines {
		if all {
			fmt.Fprintf(w, "%s\t", l.Namespace)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Name, cores(l.CPU.MilliValue()), percent(l.CPUOf), mebibytes(l.Memory.Value()), percent(l.MemoryOf))
	}
	return w.Flush()
}

func cores(milli int64) string     { return fmt.Sprintf("%dm", milli) }
func mebibytes(bytes int64) string { return fmt.Sprintf("%dMi", (bytes+1<<20-1)>>20) }

// meter asks for what is used.
type meter struct {
	conn            *conn
	namespace, name string
	query           url.Values
}

func (m *meter) nodes(ctx context.Context) ([]used, error) {
	usage, err := listed[metricsv1beta1.NodeMetrics, metricsv1beta1.NodeMetricsList](ctx, m, metricsPath+"/nodes", func(l *metricsv1beta1.NodeMetricsList) []metricsv1beta1.NodeMetrics { return l.Items })
	if err != nil {
		return nil, err
	}
	nodes, err := listed[corev1.Node, corev1.NodeList](ctx, m, path(api.Nodes, "", ""), func(l *corev1.NodeList) []corev1.Node { return l.Items })
	if err != nil {
		return nil, err
	}
	has := map[string]corev1.ResourceList{}
	for _, n := range nodes {
		has[n.Name] = n.Status.Allocatable
	}
	var out []used
	for _, u := range usage {
		out = append(out, line("", u.Name, u.Usage, has[u.Name]))
	}
	return out, nil
}

func (m *meter) pods(ctx context.Context) ([]used, error) {
	usage, err := m.podUsage(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := m.podObjects(ctx)
	if err != nil {
		return nil, err
	}
	var out []used
	for _, u := range usage {
		var requests corev1.ResourceList
		if p := pods[u.Namespace+"/"+u.Name]; p != nil {
			requests = api.PodRequests(p)
		}
		out = append(out, line(u.Namespace, u.Name, sumOf(u.Containers), requests))
	}
	return out, nil
}

func (m *meter) podUsage(ctx context.Context) ([]metricsv1beta1.PodMetrics, error) {
	at := metricsPath + "/pods"
	if m.namespace != "" {
		at = metricsPath + "/namespaces/" + m.namespace + "/pods"
	}
	return listed[metricsv1beta1.PodMetrics, metricsv1beta1.PodMetricsList](ctx, m, at, func(l *metricsv1beta1.PodMetricsList) []metricsv1beta1.PodMetrics { return l.Items })
}

func (m *meter) podObjects(ctx context.Context) (map[string]*corev1.Pod, error) {
	pods, err := listed[corev1.Pod, corev1.PodList](ctx, m, path(api.Pods, m.namespace, ""), func(l *corev1.PodList) []corev1.Pod { return l.Items })
	out := map[string]*corev1.Pod{}
	for i := range pods {
		out[pods[i].Namespace+"/"+pods[i].Name] = &pods[i]
	}
	return out, err
}

// listed gets the objects at a path that m selects, one when it has a name.
func listed[T, L any](ctx context.Context, m *meter, at string, items func(*L) []T) ([]T, error) {
	if m.name != "" {
		one := new(T)
		if err := m.conn.json(ctx, request{method: "GET", path: at + "/" + m.name}, one); err != nil {
			return nil, err
		}
		return []T{*one}, nil
	}
	all := new(L)
	if err := m.conn.json(ctx, request{method: "GET", path: at, query: m.query}, all); err != nil {
		return nil, err
	}
	return items(all), nil
}

func sumOf(containers []metricsv1beta1.ContainerMetrics) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, c := range containers {
		for name, q := range c.Usage {
			total := sum[name]
			total.Add(q)
			sum[name] = total
		}
	}
	return sum
}

func line(namespace, name string, usage, of corev1.ResourceList) used {
	l := used{Namespace: namespace, Name: name, CPU: usage[corev1.ResourceCPU], Memory: usage[corev1.ResourceMemory]}
	part := func(is resource.Quantity, name corev1.ResourceName) *int64 {
		all := of[name]
		if all.IsZero() {
			return nil
		}
		n := int64(is.AsApproximateFloat64()/all.AsApproximateFloat64()*100 + .5)
		return &n
	}
	l.CPUOf, l.MemoryOf = part(l.CPU, corev1.ResourceCPU), part(l.Memory, corev1.ResourceMemory)
	return l
}
