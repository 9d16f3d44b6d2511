package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func publish(ports ...corev1.ContainerPort) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = ports }
}

func TestPortsOfTheMachineLeadToPodsThatRun(t *testing.T) {
	inWorld(t, func(w *world) {
		var told [][]string
		w.config = func(c *Config) {
			c.HostPorts = func(all []HostPort) {
				var now []string
				for _, h := range all {
					now = append(now, fmt.Sprintf("%d>%s udp=%v", h.Port, h.Pod, h.UDP))
				}
				told = append(told, now)
			}
		}
		w.halt()
		w.start()
		last := func(when string, want ...string) {
			t.Helper()
			w.settle()
			if len(told) == 0 || !slices.Equal(told[len(told)-1], want) {
				t.Errorf("%s: %q, want %q", when, told, want)
			}
		}
		last("at first")
		w.pod("web", publish(corev1.ContainerPort{ContainerPort: 8080, HostPort: 80, Protocol: corev1.ProtocolTCP}, corev1.ContainerPort{ContainerPort: 9090}))
		w.pod("dns", publish(corev1.ContainerPort{ContainerPort: 53, HostPort: 53, Protocol: corev1.ProtocolUDP}))
		w.pod("host", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			publish(corev1.ContainerPort{ContainerPort: 81, HostPort: 81, Protocol: corev1.ProtocolTCP})(p)
		})
		last("with two pods", "53>default/dns udp=true", "80>default/web udp=false")
		before := len(told)
		w.halt()
		w.start()
		w.settle()
		for _, now := range told[before:] {
			if len(now) != 2 {
				t.Errorf("a restart of the peer closed ports: %q", told[before:])
			}
		}
		w.delete("web", 0)
		w.pass(5 * time.Second)
		last("one pod gone", "53>default/dns udp=true")
		late := w.pod("late", publish(corev1.ContainerPort{ContainerPort: 53, HostPort: 53, Protocol: corev1.ProtocolUDP}))
		w.settle()
		if p := w.get(late.Name); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "NodePorts" {
			t.Errorf("a second pod got the port: %s", brief(p))
		}
	})
}

func TestWhichPodsWantOnePort(t *testing.T) {
	port := func(ip string, proto corev1.Protocol, n int32) *corev1.Pod {
		p := newPod("a")
		publish(corev1.ContainerPort{HostIP: ip, HostPort: n, Protocol: proto})(p)
		return p
	}
	sidecar, always := newPod("c"), corev1.ContainerRestartPolicyAlways
	sidecar.Spec.InitContainers = []corev1.Container{
		{Name: "init", Ports: []corev1.ContainerPort{{HostPort: 81, Protocol: corev1.ProtocolTCP}}}, // has ended when the pod runs
		{Name: "side", RestartPolicy: &always, Ports: []corev1.ContainerPort{{HostPort: 80, Protocol: corev1.ProtocolTCP}}},
	}
	for _, row := range []struct {
		a, b *corev1.Pod
		want bool
	}{
		{port("", "TCP", 80), port("", "", 80), true},
		{port("", "TCP", 80), port("", "UDP", 80), false},
		{port("", "TCP", 80), port("", "TCP", 81), false},
		{port("192.0.2.1", "TCP", 80), port("0.0.0.0", "TCP", 80), true},
		{port("192.0.2.1", "TCP", 80), port("192.0.2.2", "TCP", 80), false},
		{newPod("a"), newPod("b"), false},
		{sidecar, port("", "TCP", 80), true},
	} {
		if got := takesPorts(row.a, row.b); got != row.want {
			t.Errorf("%+v and %+v: %v", row.a.Spec.Containers[0].Ports, row.b.Spec.Containers[0].Ports, got)
		}
	}
}
