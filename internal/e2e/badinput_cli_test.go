//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// lines joins the lines of a manifest.
func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

var podHead = lines("apiVersion: v1", "kind: Pod", "metadata: {name: web}")

// TestCommandsRefuse gives the command line what it cannot do. Nothing may be created by any of it.
func TestCommandsRefuse(t *testing.T) {
	all := bareNetwork(t, "one", "two")
	one, two := all["one"], all["two"]
	one.up().ready()
	objects := func() string { return one.shoal("get", "rc,pods,svc,ns", "-A", "-o", "name") }
	before := objects()

	step(t, "manifests", all, func(t *testing.T) {
		for _, c := range []struct {
			what, text string
			words      []string
		}{
			{"an unknown field", podHead + lines("spec:", "  containers:", "  - {name: web, imagee: nginx}"), []string{"/run/m.yaml:1", "pod/web", "unknown field", "imagee"}},
			{"a wrong type", lines("# an RC", "---", "apiVersion: v1", "kind: ReplicationController", "metadata: {name: web}", "spec: {replicas: three}"), []string{"/run/m.yaml:3", "replicationcontroller/web", "replicas"}},
			{"no image", podHead + lines("spec:", "  containers:", "  - {name: web}"), []string{"/run/m.yaml:1", "pod/web", "spec.containers[0].image", "Required"}},
			{
				"a selector that does not match", lines("apiVersion: v1", "kind: ReplicationController", "metadata: {name: web}", "spec:", "  selector: {app: a}",
					"  template:", "    metadata: {labels: {app: b}}", "    spec: {containers: [{name: web, image: nginx}]}"),
				[]string{"/run/m.yaml:1", "replicationcontroller/web", "spec.template.metadata.labels", "selector"},
			},
			{"no YAML", lines("apiVersion: v1", "kind: [Pod"), []string{"/run/m.yaml:1", "not YAML", "line 2"}},
			{"no kind", lines("metadata: {name: web}"), []string{"/run/m.yaml:1", "apiVersion and kind"}},
			{"an unknown kind", lines("apiVersion: example.com/v1", "kind: Widget", "metadata: {name: web}"), []string{"/run/m.yaml:1", `"Widget"`, "example.com/v1", "replicationcontrollers"}},
			{"no name", lines("apiVersion: v1", "kind: Pod", "spec: {containers: [{name: web, image: nginx}]}"), []string{"/run/m.yaml:1", "metadata.name"}},
			{"a bad name", lines("apiVersion: v1", "kind: Pod", "metadata: {name: Web_1}", "spec: {containers: [{name: web, image: nginx}]}"), []string{"/run/m.yaml:1", "metadata.name", "lower case"}},
			{"a namespace that is not there", lines("apiVersion: v1", "kind: Pod", "metadata: {name: web, namespace: nosuch}", "spec: {containers: [{name: web, image: nginx}]}"), []string{"/run/m.yaml:1", `"nosuch" not found`}},
			{"nothing", "# nothing\n", []string{"/run/m.yaml", "no objects"}},
		} {
			for _, verb := range []string{"apply", "create"} {
				one.write("/run/m.yaml", c.text)
				one.refused(t, verb+" -f m.yaml with "+c.what, one.run("shoal", verb, "-f", "/run/m.yaml"), c.words...)
			}
		}
		one.refused(t, "apply -f nosuch.yaml", one.run("shoal", "apply", "-f", "nosuch.yaml"), "nosuch.yaml", "no such file")
		one.refused(t, "apply", one.run("shoal", "apply"), "-f FILE")
	})
	step(t, "words", all, func(t *testing.T) {
		for _, c := range []struct {
			args  string
			code  int
			words []string
		}{
			{"gte pods", 2, []string{"gte", `did you mean "get"`, "shoal --help"}},
			{"get frobs", 2, []string{`"frobs"`, "pods"}},
			{"get", 2, []string{"name a kind", "pods"}},
			{"get pods --frob", 2, []string{"--frob", "shoal get --help"}},
			{"get pods -o frob", 2, []string{"frob", "jsonpath"}},
			{"get pods nosuch", 1, []string{`pods "nosuch" not found`}},
			{"get pods web -n nosuch", 1, []string{"not found"}},
			{"get pods -l a==b==c", 2, []string{"-l", "selector", "app=web"}},
			{"get pods --field-selector spec.frob=1", 1, []string{"spec.frob"}},
			{"describe pod nosuch", 1, []string{`pods "nosuch" not found`}},
			{"logs", 2, []string{"whose logs"}},
			{"logs nosuch", 1, []string{`pods "nosuch" not found`}},
			{"logs rc/nosuch", 1, []string{`replicationcontrollers "nosuch" not found`}},
			{"logs -l app=nosuch", 1, []string{"no pods match app=nosuch"}},
			{"exec nosuch -- true", 1, []string{`pods "nosuch" not found`}},
			{"delete pods", 2, []string{"which pods", "--all"}},
			{"delete pod nosuch", 1, []string{`pods "nosuch" not found`}},
			{"scale rc nosuch --replicas 3", 1, []string{`"nosuch" not found`}},
			{"scale rc nosuch", 2, []string{"--replicas"}},
			{"scale rc nosuch --replicas -1", 2, []string{"--replicas"}},
			{"scale rc nosuch --replicas many", 2, []string{"--replicas", "many"}},
			{"label pod nosuch", 2, []string{"no labels given"}},
			{"create namespace Bad_Name", 1, []string{"metadata.name", "lower case"}},
			{"create deployment x", 2, []string{"namespace NAME"}},
			{"token revoke nosuch", 1, []string{`"nosuch"`}},
			{"token create --uses 0", 2, []string{"--uses"}},
			{"token create --ttl 1", 2, []string{"--ttl"}},
			{"token create --ttl 10ms", 2, []string{"--ttl"}},
			{"image import /nosuch.tar", 1, []string{"/nosuch.tar"}},
			{"--peer nowhere get pods", 1, []string{"nowhere"}},
			{"--peer 10.98.0.99 get pods", 1, []string{"10.98.0.99"}},
			{"--peer two get pods", 1, []string{"https://two:6443", "refused", "shoal up"}},
			{"--peer ht!tp://x/y get pods", 2, []string{"--peer", "ht!tp"}},
			{"--kubeconfig /nosuch get pods", 1, []string{"/nosuch", "shoal kubeconfig"}},
		} {
			got := one.run(append([]string{"shoal"}, strings.Fields(c.args)...)...)
			one.refused(t, c.args, got, c.words...)
			if got.code != c.code {
				t.Errorf("shoal %s: exit code %d, want %d", c.args, got.code, c.code)
			}
		}
	})
	if after := objects(); after != before {
		t.Errorf("something was done:\n%s", after)
	}
	step(t, "without a cluster", all, func(t *testing.T) {
		two.refused(t, "get pods", two.run("shoal", "get", "pods"), "/var/lib/shoal", "shoal up", "shoal lab up", "--kubeconfig")
		two.refused(t, "peers", two.run("shoal", "peers"), "/var/lib/shoal", "shoal up")
	})
	step(t, "with the peer stopped", all, func(t *testing.T) {
		one.daemon.stop()
		if text := one.daemon.text(); strings.Contains(text, "WARN") || strings.Contains(text, "warn") {
			t.Errorf("a lone peer stops with a warning:\n%s", text)
		}
		for _, verb := range []string{"get pods", "peers", "status", "apply -f /run/ok.yaml"} {
			one.write("/run/ok.yaml", podHead+lines("spec: {containers: [{name: web, image: nginx}]}"))
			one.refused(t, verb, one.run(append([]string{"shoal"}, strings.Fields(verb)...)...), "127.0.0.1:6443", "refused", "shoal up")
		}
	})
}
