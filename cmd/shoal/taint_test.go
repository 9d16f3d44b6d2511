package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTaint(t *testing.T) {
	there := []corev1.Taint{
		{Key: "disk", Value: "slow", Effect: corev1.TaintEffectNoSchedule}, {Key: "disk", Value: "slow", Effect: corev1.TaintEffectNoExecute},
	}
	for _, c := range []struct {
		args string
		code int
		want string // the taints, or a part of the error
	}{
		{"three team=a:NoSchedule", 0, "disk=slow:NoSchedule disk=slow:NoExecute team=a:NoSchedule"},
		{"node three node.kubernetes.io/out-of-service=:NoExecute", 0, "disk=slow:NoSchedule disk=slow:NoExecute node.kubernetes.io/out-of-service=:NoExecute"},
		{"three disk-", 0, ""},
		{"three disk:NoExecute-", 0, "disk=slow:NoSchedule"},
		{"three disk=slow:NoExecute- team:PreferNoSchedule", 0, "disk=slow:NoSchedule team=:PreferNoSchedule"},
		{"three disk=slow:NoSchedule", 0, "disk=slow:NoSchedule disk=slow:NoExecute"},
		{"three disk=broken:NoSchedule --overwrite", 0, "disk=broken:NoSchedule disk=slow:NoExecute"},
		{"three disk=broken:NoSchedule", exitFailed, `is there already, with value "slow": give --overwrite`},
		{"three team-", exitFailed, `taint "team" is not there`},
		{"three team=a", exitUsage, "has no effect: append :NoSchedule"},
		{"three team=a:Never", exitUsage, `effect "Never" is none of`},
		{"three =a:NoSchedule", exitUsage, "has no key"},
		{"team=a:NoSchedule three", exitUsage, "machines' names come first"},
		{"three", exitUsage, "shoal taint three disk=broken:NoSchedule"},
		{"team=a:NoSchedule", exitUsage, "give machines and taints"},
		{"four team=a:NoSchedule", exitFailed, "four"},
	} {
		conflicts := 1
		var got []string
		at := server(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch {
			case !strings.HasSuffix(r.URL.Path, "/nodes/three"):
				refuse(w, 404, r.URL.String())
			case r.Method == "GET":
				_ = json.NewEncoder(w).Encode(corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "three", ResourceVersion: "7"}, Spec: corev1.NodeSpec{Taints: there}})
			case conflicts > 0:
				conflicts--
				refuse(w, 409, "somebody was faster")
			default:
				b, _ := io.ReadAll(r.Body)
				var n corev1.Node
				if err := json.Unmarshal(b, &n); err != nil || n.ResourceVersion != "7" {
					t.Errorf("%s: %v", b, err)
				}
				for _, taint := range n.Spec.Taints {
					got = append(got, taint.Key+"="+taint.Value+":"+string(taint.Effect))
				}
				_ = json.NewEncoder(w).Encode(n)
			}
		})
		out, stderr, code := cli(t, "", append(at, strings.Fields("taint "+c.args)...)...)
		if code != c.code || code == 0 && strings.Join(got, " ") != c.want || code != 0 && !strings.Contains(stderr, c.want) {
			t.Errorf("shoal taint %s: code %d, taints %v\n%s%s", c.args, code, got, out, stderr)
		}
	}
}
