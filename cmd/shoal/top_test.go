package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// usageAPI has two nodes and two pods of one controller.
func usageAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	text := map[string]string{
		"/api/v1/nodes":                      `{"items":[{"metadata":{"name":"one"},"status":{"allocatable":{"cpu":"2","memory":"4Gi"}}},{"metadata":{"name":"two"},"status":{"allocatable":{"cpu":"2","memory":"4Gi"}}}]}`,
		"/apis/metrics.k8s.io/v1beta1/nodes": `{"items":[{"metadata":{"name":"one"},"usage":{"cpu":"500m","memory":"1Gi"}},{"metadata":{"name":"two"},"usage":{"cpu":"1","memory":"512Mi"}}]}`,
		"/api/v1/namespaces/default/pods": `{"items":[
			{"metadata":{"namespace":"default","name":"a","ownerReferences":[{"kind":"ReplicaSet","name":"web","controller":true}]},"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}},{"name":"d"}]}},
			{"metadata":{"namespace":"default","name":"b","ownerReferences":[{"kind":"ReplicaSet","name":"web","controller":true}]},"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}},{"name":"d"}]}}]}`,
		"/apis/metrics.k8s.io/v1beta1/namespaces/default/pods": `{"items":[
			{"metadata":{"namespace":"default","name":"a"},"containers":[{"name":"c","usage":{"cpu":"100m","memory":"100Mi"}},{"name":"d","usage":{"cpu":"1m","memory":"1Mi"}}]},
			{"metadata":{"namespace":"default","name":"b"},"containers":[{"name":"c","usage":{"cpu":"200m","memory":"50Mi"}}]}]}`,
	}[r.URL.Path]
	if text == "" {
		refuse(w, 404, "nothing at "+r.URL.Path)
		return
	}
	_, _ = io.WriteString(w, text)
}

func TestTop(t *testing.T) {
	at := server(t, usageAPI)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"top"}, "NAME   CPU(cores)   CPU%   MEMORY(bytes)   MEMORY%\none    500m         25%    1024Mi          25%\ntwo    1000m        50%    512Mi           13%\n"},
		{[]string{"top", "nodes", "--sort-by", "cpu"}, "two "},
		{[]string{"top", "pods"}, "NAME   CPU(cores)   CPU% OF REQUEST   MEMORY(bytes)   MEMORY% OF REQUEST\na      101m         10%               101Mi           -\nb      200m         20%               50Mi            -\n"},
		{
			[]string{"top", "pods", "--recommend", "--for", "1ms"},
			"OWNER            CONTAINER   PODS   SAMPLES   CPU REQUEST   BETTER   MEMORY REQUEST   BETTER\n" +
				"replicaset/web   c           2      2         1             230m     -                115Mi\n" +
				"replicaset/web   d           1      1         -             25m      -                32Mi\n",
		},
	} {
		out, stderr, code := cli(t, "", append(at, c.args...)...)
		if code != 0 || !strings.Contains(out, c.want) || c.args[len(c.args)-1] == "cpu" && strings.Index(out, "two ") > strings.Index(out, "one ") {
			t.Errorf("shoal %s: code %d\n%s%s\nwant\n%s", strings.Join(c.args, " "), code, out, stderr, c.want)
		}
	}
	out, _, _ := cli(t, "", append(at, "top", "-o", "json")...)
	var lines []used
	if err := json.Unmarshal([]byte(out), &lines); err != nil || len(lines) != 2 || *lines[1].CPUOf != 50 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTopRefuses(t *testing.T) {
	at := server(t, usageAPI)
	for args, want := range map[string]string{
		"top frogs":                      "nodes",
		"top nodes --recommend":          "shoal top pods --recommend",
		"top pods --recommend --for=-1s": "must be more than nothing",
		"top nodes -A":                   "nodes have no namespace",
		"top pods a -l app=web":          "do not go together",
		"top pods --sort-by age":         "--sort-by",
	} {
		_, stderr, code := cli(t, "", append(at, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("shoal %s: code %d, %s; want %s", args, code, stderr, want)
		}
	}
}
