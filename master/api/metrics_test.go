package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

var measuredAt = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// measuring returns a server of three nodes, of which "silent" never answers, with two pods on "busy" and one on "silent", and a
// count of the questions asked.
func measuring(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	reg, _ := registrytest.New(t)
	create := func(k *shoalapi.Kind, o shoalapi.Object) shoalapi.Object {
		t.Helper()
		got, err := reg.Create(t.Context(), k, o, client.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.(shoalapi.Object)
	}
	for _, name := range []string{"busy", "idle", "silent"} {
		create(shoalapi.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": name}}})
	}
	pods := map[types.UID]map[string]shoalapi.Used{}
	for _, ns := range []string{"one", "two"} {
		create(shoalapi.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	}
	for _, p := range []struct{ ns, name, node string }{{"one", "web", "busy"}, {"two", "db", "busy"}, {"two", "lost", "silent"}} {
		o := create(shoalapi.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.ns, Name: p.name, Labels: map[string]string{"app": p.name}},
			Spec:       corev1.PodSpec{NodeName: p.node, Containers: []corev1.Container{{Name: "main", Image: "i"}, {Name: "side", Image: "i"}}},
		}).(*corev1.Pod)
		o.Status.Phase = corev1.PodRunning
		if _, err := reg.Update(t.Context(), shoalapi.Pods, o, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		pods[o.UID] = map[string]shoalapi.Used{"main": {NanoCores: 1_500_000, WorkingSet: 4 << 20}, "side": {NanoCores: 7, WorkingSet: 8192}}
	}
	asked = new(atomic.Int32)
	usage := func(ctx context.Context, node string) (*shoalapi.Usage, error) {
		asked.Add(1)
		switch node {
		case "silent":
			<-ctx.Done()
			return nil, ctx.Err()
		case "idle":
			return &shoalapi.Usage{At: measuredAt, Window: time.Second}, nil
		case "busy":
			return &shoalapi.Usage{At: measuredAt, Window: time.Second, Machine: shoalapi.Used{NanoCores: 250_000_000, WorkingSet: 1 << 30}, Pods: pods}, nil
		}
		return nil, errors.New("no such node: " + node)
	}
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}, Usage: usage}))
	t.Cleanup(srv.Close)
	return srv.URL + "/apis/metrics.k8s.io/v1beta1", asked
}

func fetch(t *testing.T, url, accept string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestMetricsOfNodesLeaveOutWhoIsSilent(t *testing.T) {
	t.Parallel()
	url, _ := measuring(t)
	code, body := fetch(t, url+"/nodes", "application/json")
	var list metricsv1beta1.NodeMetricsList
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
		t.Fatal(code, err, body)
	}
	if len(list.Items) != 2 || list.Items[0].Name != "busy" || list.Items[1].Name != "idle" || list.Kind != "NodeMetricsList" {
		t.Fatalf("got %s", body)
	}
	busy := list.Items[0]
	if got := busy.Usage.Cpu().String() + " " + busy.Usage.Memory().String(); got != "250M 1Gi" && got != "250m 1Gi" {
		t.Errorf("busy uses %s", got)
	}
	if busy.Labels["zone"] != "busy" || !busy.Timestamp.Equal(&metav1.Time{Time: measuredAt}) || busy.Window.Duration != time.Second {
		t.Errorf("got %+v", busy)
	}
}

func TestMetricsAreSelected(t *testing.T) {
	t.Parallel()
	url, _ := measuring(t)
	for path, want := range map[string][]string{
		"/pods":                                   {"web", "db"}, // "lost" is on the silent node
		"/namespaces/one/pods":                    {"web"},
		"/namespaces/two/pods":                    {"db"},
		"/pods?labelSelector=app%3Ddb":            {"db"},
		"/nodes?labelSelector=zone%3Didle":        {"idle"},
		"/pods?fieldSelector=metadata.name%3Dweb": {"web"},
		"/pods?labelSelector=app%3Dnothing":       {},
	} {
		code, body := fetch(t, url+path, "application/json")
		var list struct {
			Items []metav1.PartialObjectMetadata
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK || list.Items == nil {
			t.Errorf("%s: %d %v %s", path, code, err, body)
			continue
		}
		names := []string{}
		for _, o := range list.Items {
			names = append(names, o.Name)
		}
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("%s: got %v, want %v", path, names, want)
		}
	}
}

func TestMetricsOfOne(t *testing.T) {
	t.Parallel()
	url, _ := measuring(t)
	code, body := fetch(t, url+"/namespaces/one/pods/web", "application/json")
	var pod metricsv1beta1.PodMetrics
	if err := json.Unmarshal([]byte(body), &pod); err != nil || code != http.StatusOK {
		t.Fatal(code, err, body)
	}
	if pod.Kind != "PodMetrics" || len(pod.Containers) != 2 || pod.Containers[0].Usage.Cpu().String() != "1500u" && pod.Containers[0].Usage.Cpu().String() != "1500000n" {
		t.Errorf("got %s", body)
	}
	for path, message := range map[string]string{
		"/nodes/silent":              `nodes.metrics.k8s.io "silent" not found`,
		"/nodes/unheard-of":          `nodes "unheard-of" not found`,
		"/namespaces/one/pods/other": `pods "other" not found`,
	} {
		code, body := fetch(t, url+path, "application/json")
		var st metav1.Status
		if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusNotFound || st.Message != message {
			t.Errorf("%s: %d %v %s", path, code, err, body)
		}
	}
}

func TestMetricsAsTable(t *testing.T) {
	t.Parallel()
	url, _ := measuring(t)
	_, body := fetch(t, url+"/namespaces/one/pods", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var table metav1.Table
	if err := json.Unmarshal([]byte(body), &table); err != nil || len(table.Rows) != 1 {
		t.Fatal(err, body)
	}
	if got := table.Rows[0].Cells; got[0] != "web" || got[1] != "1500007n" || got[2] != "4104Ki" || got[3] != "1s" {
		t.Errorf("got %v", got)
	}
}

func TestMetricsAreNotWritten(t *testing.T) {
	t.Parallel()
	url, _ := measuring(t)
	resp, err := http.Post(url+"/namespaces/one/pods", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %d", resp.StatusCode)
	}
	if code, _ := fetch(t, url+"/pods/web", "*/*"); code != http.StatusNotFound {
		t.Errorf("a pod without a namespace: %d", code)
	}
}

func TestAMachineIsAskedOnceForAllItsPods(t *testing.T) {
	t.Parallel()
	url, asked := measuring(t)
	if code, body := fetch(t, url+"/pods?labelSelector=app+in+(web,db)", "*/*"); code != http.StatusOK || asked.Load() != 1 {
		t.Errorf("%d questions: %d %s", asked.Load(), code, body)
	}
}
