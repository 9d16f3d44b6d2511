package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/metrics/pkg/apis/metrics"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
	"shoal/master/registry"
)

// metricsPatience is how long a peer has to say what it uses; it needs half a second to find out. Those that do not are left out.
const metricsPatience = 1500 * time.Millisecond

func resourceList(u shoalapi.Used) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(u.NanoCores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(u.WorkingSet), resource.BinarySI),
	}
}

// serveMetrics answers metrics.k8s.io: nothing is stored, the machines concerned are asked.
func (s *Server) serveMetrics(w http.ResponseWriter, r *request) {
	var offer func(context.Context, http.ResponseWriter, *request) (*measured, error)
	switch {
	case r.Subresource != "":
	case r.Resource == "nodes" && r.Namespace == "":
		r.kind, offer = shoalapi.Nodes, s.nodeMetrics
	case r.Resource == "pods" && (r.Name == "" || r.Namespace != ""):
		r.kind, offer = shoalapi.Pods, s.podMetrics
	}
	switch {
	case offer == nil:
		s.fail(w, r, notServed())
		return
	case r.Verb != "get" && r.Verb != "list":
		s.fail(w, r, notAllowed())
		return
	}
	if !s.negotiated(w, r) {
		return
	}
	m, err := offer(r.Context(), w, r)
	if err == nil && r.Name != "" && len(m.rows) == 0 {
		err = apierrors.NewNotFound(schema.GroupResource{Group: metrics.GroupName, Resource: r.Resource}, r.Name)
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
	case r.format.as == asTable:
		s.writeObject(w, r, r.format, http.StatusOK, m.table(r.format.version))
	case r.Name != "":
		s.writeObject(w, r, r.format.plain(), http.StatusOK, m.rows[0].object)
	default:
		s.writeObject(w, r, r.format.plain(), http.StatusOK, m.list)
	}
}

// measured is an answer, as a list and as the rows of a table.
type measured struct {
	list runtime.Object
	rows []measuredRow
}

type measuredRow struct {
	object runtime.Object
	name   string
	use    shoalapi.Used
	window time.Duration
}

func (s *Server) nodeMetrics(ctx context.Context, w http.ResponseWriter, r *request) (*measured, error) {
	entries, err := s.selected(w, r)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Key.Name)
	}
	used := s.ask(ctx, names)
	list := &metricsv1beta1.NodeMetricsList{TypeMeta: metricsType("NodeMetricsList"), Items: []metricsv1beta1.NodeMetrics{}}
	m := &measured{list: list}
	for _, e := range entries {
		u := used[e.Key.Name]
		if u == nil {
			continue
		}
		one := metricsv1beta1.NodeMetrics{
			ObjectMeta: measuredMeta(e, u), Timestamp: metav1.NewTime(u.At), Window: metav1.Duration{Duration: u.Window}, Usage: resourceList(u.Machine),
		}
		list.Items = append(list.Items, one)
		one.TypeMeta = metricsType("NodeMetrics")
		m.rows = append(m.rows, measuredRow{&one, e.Key.Name, u.Machine, u.Window})
	}
	return m, nil
}

func (s *Server) podMetrics(ctx context.Context, w http.ResponseWriter, r *request) (*measured, error) {
	entries, err := s.selected(w, r)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if p := e.Object.(*corev1.Pod); p.Status.Phase == corev1.PodRunning {
			names = append(names, p.Spec.NodeName)
		}
	}
	used := s.ask(ctx, names)
	list := &metricsv1beta1.PodMetricsList{TypeMeta: metricsType("PodMetricsList"), Items: []metricsv1beta1.PodMetrics{}}
	m := &measured{list: list}
	for _, e := range entries {
		p := e.Object.(*corev1.Pod)
		u := used[p.Spec.NodeName]
		if u == nil || len(u.Pods[p.UID]) == 0 {
			continue
		}
		one := metricsv1beta1.PodMetrics{
			ObjectMeta: measuredMeta(e, u), Timestamp: metav1.NewTime(u.At), Window: metav1.Duration{Duration: u.Window},
			Containers: []metricsv1beta1.ContainerMetrics{},
		}
		var sum shoalapi.Used
		for i := range p.Spec.Containers {
			name := p.Spec.Containers[i].Name
			if c, ok := u.Pods[p.UID][name]; ok {
				one.Containers = append(one.Containers, metricsv1beta1.ContainerMetrics{Name: name, Usage: resourceList(c)})
				sum.NanoCores += c.NanoCores
				sum.WorkingSet += c.WorkingSet
			}
		}
		list.Items = append(list.Items, one)
		one.TypeMeta = metricsType("PodMetrics")
		m.rows = append(m.rows, measuredRow{&one, p.Name, sum, u.Window})
	}
	return m, nil
}

// selected reads the nodes or pods that the request is about.
func (s *Server) selected(w http.ResponseWriter, r *request) (found []*registry.Entry, err error) {
	if r.Name != "" {
		err = s.read(w, r, "", func(ctx context.Context, rv string) error {
			e, err := s.reg.GetEntry(ctx, r.kind, r.key(), client.GetOptions{ResourceVersion: rv})
			found = []*registry.Entry{e}
			return err
		})
		return found, err
	}
	o, _, err := r.listOptions()
	if err != nil {
		return nil, err
	}
	o.Limit, o.Continue = 0, "" // all in one, as metrics-server answers
	err = s.read(w, r, "", func(ctx context.Context, rv string) error {
		o.ResourceVersion, o.ResourceVersionMatch = rv, ""
		es, err := s.reg.ListEntries(ctx, r.kind, o)
		if err == nil {
			found = es.Items
		}
		return err
	})
	return found, err
}

// ask asks the peers of the nodes, all at once. Requests that come together share an answer.
func (s *Server) ask(ctx context.Context, nodes []string) map[string]*shoalapi.Usage {
	ctx, cancel := context.WithTimeout(ctx, metricsPatience)
	defer cancel()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		used = map[string]*shoalapi.Usage{}
	)
	for _, node := range nodes {
		mu.Lock()
		_, asked := used[node]
		used[node] = nil
		mu.Unlock()
		if asked || node == "" || s.cfg.Usage == nil {
			continue
		}
		wg.Go(func() {
			answer := s.asking.DoChan(node, func() (any, error) {
				// Not the first asker's context: others may wait for the same answer.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), metricsPatience)
				defer cancel()
				return s.cfg.Usage(ctx, node)
			})
			select {
			case a := <-answer:
				if a.Err != nil {
					s.log.Debug("no metrics", "node", node, "err", a.Err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				used[node] = a.Val.(*shoalapi.Usage)
			case <-ctx.Done():
			}
		})
	}
	defer fair.Yield(ctx)()
	wg.Wait()
	return used
}

func metricsType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: metricsv1beta1.SchemeGroupVersion.String(), Kind: kind}
}

func measuredMeta(e *registry.Entry, u *shoalapi.Usage) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: e.Key.Name, Namespace: e.Key.Namespace, Labels: e.Object.GetLabels(), CreationTimestamp: metav1.NewTime(u.At),
	}
}

// table has the columns of metrics-server.
func (m *measured) table(version string) *metav1.Table {
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "Table"},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
			{Name: "cpu", Type: "string", Format: "quantity"},
			{Name: "memory", Type: "string", Format: "quantity"},
			{Name: "Window", Type: "string", Format: "duration"},
		},
		Rows: []metav1.TableRow{},
	}
	for _, r := range m.rows {
		use := resourceList(r.use)
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells:  []any{r.name, use.Cpu().String(), use.Memory().String(), r.window.String()},
			Object: runtime.RawExtension{Object: r.object},
		})
	}
	return t
}
