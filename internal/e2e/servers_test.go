//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// aServer is one that people run, with the client of its own that loads it from another machine, through its Service.
type aServer struct {
	name, client string // the pods' label app, and the Job
	says         []string
	after        func(t *testing.T, c *cluster) // what must hold after its pod was replaced
}

// TestServersThatEverybodyRuns runs databases, caches and a web server as Debian packages them, with probes, volumes and Services; their own clients load
// them from other machines, and Prometheus watches all of it as it watches any Kubernetes.
func TestServersThatEverybodyRuns(t *testing.T) {
	c := startLab(t, 3)
	all := []aServer{
		{name: "postgres", client: "pgbench", says: []string{`actually processed: 800/800`, `number of failed transactions: 0 `}, after: func(t *testing.T, _ *cluster) {
			prints(t, "100000", "postgres-0", "sh", "-c", `PGPASSWORD="correct horse" psql -h 127.0.0.1 -U postgres -tAc "select count(*) from pgbench_accounts"`)
		}},
		{name: "mariadb", client: "mariadb-slap", says: []string{`Number of clients running queries: 8`, `Average number of queries per client: 50`}, after: func(t *testing.T, _ *cluster) {
			prints(t, "1", "mariadb-0", "mariadb", "--host=127.0.0.1", "--user=app", "--password=battery-staple", "-BNe", "select count(*) from information_schema.tables where table_schema='mysqlslap'")
		}},
		{name: "redis", client: "redis-benchmark", says: []string{`SET: [0-9.]+ requests per second`, `GET: [0-9.]+ requests per second`}, after: func(t *testing.T, _ *cluster) {
			prints(t, "1", "redis-0", "redis-cli", "exists", "key:__rand_int__")
		}},
		{name: "nginx", client: "ab", says: []string{`Complete requests: +2000`, `Failed requests: +0`, `Document Length: +18 bytes`}},
		{name: "memcached", client: "memcslap", says: []string{`Time to set +2000 keys by +4 threads`}},
	}
	for _, s := range append(all, aServer{name: "prometheus"}) {
		shoal(t, "image", "import", filepath.Join(repo(), "build/images", s.name+".tar"))
		manifest, err := os.ReadFile(filepath.Join("testdata/servers", s.name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		server, job, _ := strings.Cut(string(manifest), "---\napiVersion: batch/v1\n")
		apply(t, server)
		if job != "" {
			// Its client finds everything at hand.
			replicas := 1
			if s.name == "nginx" {
				replicas = 2
			}
			running(t, c.api, s.name, replicas, 2*time.Minute)
			within(t, time.Minute, s.name+" is ready", func(ctx context.Context) error { return allReady(ctx, c, s.name, replicas) })
			apply(t, "apiVersion: batch/v1\n"+job)
		}
	}
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) { loaded(t, c, s) })
	}
	t.Run("prometheus", func(t *testing.T) { watched(t, c) })
	for _, s := range all {
		if s.after == nil {
			continue
		}
		t.Run(s.name+" again", func(t *testing.T) {
			shoal(t, "delete", "pod", s.name+"-0")
			within(t, time.Minute, s.name+" is ready again", func(ctx context.Context) error { return allReady(ctx, c, s.name, 1) })
			s.after(t, c)
		})
	}
}

func allReady(ctx context.Context, c *cluster, app string, n int) error {
	found, err := pods(ctx, c.api, app)
	if err != nil {
		return err
	}
	for _, p := range found {
		if !api.IsPodReady(p) || p.DeletionTimestamp != nil {
			return fmt.Errorf("%s: %w", p.Name, errNotYet)
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount > 0 {
				return fmt.Errorf("%s was restarted: %+v", p.Name, s.LastTerminationState)
			}
		}
	}
	if len(found) != n {
		return errNotYet
	}
	return nil
}

// loaded waits for the client to end well, on another machine than the server's, and reads what it says.
func loaded(t *testing.T, c *cluster, s aServer) {
	began := time.Now()
	within(t, 2*time.Minute, s.client+" is done", func(ctx context.Context) error {
		o, err := c.api.Get(ctx, api.Jobs, client.Key{Namespace: "default", Name: s.client}, client.GetOptions{})
		if err != nil {
			return err
		}
		switch j := o.(*batchv1.Job); {
		case j.Status.Failed > 0:
			t.Fatalf("%s failed:\n%s", s.client, shoal(t, "logs", "job/"+s.client))
		case j.Status.Succeeded == 0:
			return errNotYet
		}
		return nil
	})
	said := shoal(t, "logs", "job/"+s.client)
	t.Logf("%s, waited for %s:\n%s", s.client, time.Since(began).Round(time.Millisecond), said)
	for _, want := range s.says {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("%s did not say %q", s.client, want)
		}
	}
	l, err := c.api.List(t.Context(), api.Pods, client.ListOptions{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	var servers, clients []string
	for _, o := range l.Items {
		switch p := o.(*corev1.Pod); {
		case p.Labels["app"] == s.name:
			servers = append(servers, p.Spec.NodeName)
		case p.Labels["job-name"] == s.client:
			clients = append(clients, p.Spec.NodeName)
		}
	}
	if len(clients) != 1 || slices.Contains(servers, clients[0]) {
		t.Errorf("%s ran on %v, its servers on %v", s.client, clients, servers)
	}
}

// watched asks Prometheus for what it has found.
func watched(t *testing.T, c *cluster) {
	running(t, c.api, "prometheus", 1, time.Minute)
	ask := func(ctx context.Context, query string) (map[string]float64, error) {
		resp, err := c.api.Do(ctx, "GET", "/api/v1/namespaces/default/services/prometheus:9090/proxy/api/v1/query", url.Values{"query": {query}}, nil, nil)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return nil, err
		}
		out := map[string]float64{}
		for _, r := range answer.Data.Result {
			var v float64
			_, err := fmt.Sscan(fmt.Sprint(r.Value[1]), &v)
			if err != nil {
				return nil, err
			}
			out[r.Metric["job"]+r.Metric["pod"]] = v
		}
		return out, nil
	}
	for _, q := range []struct {
		query string
		well  func(map[string]float64) bool
	}{
		{`count by (job) (up == 1)`, func(v map[string]float64) bool { return v["api"] == 3 && v["cadvisor"] == 3 && v["pods"] == 1 }},
		{`count(up == 0) or vector(0)`, func(v map[string]float64) bool { return v[""] == 0 }},
		{`sum by (pod) (container_memory_working_set_bytes{namespace="default",container="postgres"})`, func(v map[string]float64) bool { return v["postgres-0"] > 5<<20 }},
		{`sum by (pod) (container_cpu_usage_seconds_total{container="mariadb"})`, func(v map[string]float64) bool { return v["mariadb-0"] > 0.05 }},
		{`sum by (pod) (container_network_receive_bytes_total{pod="redis-0"})`, func(v map[string]float64) bool { return v["redis-0"] > 100_000 }},
		{`sum(rate(container_cpu_usage_seconds_total{pod!=""}[10s]))`, func(v map[string]float64) bool { return v[""] > 0 }},
		{`count(count by (instance) (apiserver_request_total{job="api"}))`, func(v map[string]float64) bool { return v[""] == 3 }},
	} {
		var last map[string]float64
		within(t, 30*time.Second, q.query, func(ctx context.Context) (err error) {
			if last, err = ask(ctx, q.query); err == nil && !q.well(last) {
				err = fmt.Errorf("%v", last)
			}
			return err
		})
		t.Log(q.query, last)
	}
}

// prints runs a command in a pod and compares what it prints.
func prints(t *testing.T, want, pod string, command ...string) {
	t.Helper()
	if got := strings.TrimSpace(shoal(t, append([]string{"exec", pod, "--"}, command...)...)); got != want {
		t.Errorf("%s says %q, want %q", pod, got, want)
	}
}
