package node

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"shoal/node/volume"
)

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) { return "v", name == "X" }
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(X)": "v", "a$(X)b$(X)": "avbv", "$(Y)": "$(Y)", "$$(X)": "$(X)", "$$$(X)": "$v",
		"$X": "$X", "$": "$", "$(X": "$(X", "$()": "$()", "100%$": "100%$", "a$$b": "a$b",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// objects are the ConfigMaps and Secrets that there are, by name.
type objects struct {
	volume.Objects

	maps    map[string]map[string]string
	secrets map[string]map[string]string
}

func (o objects) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if m, ok := o.maps[name]; ok {
		return &corev1.ConfigMap{Data: m}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (o objects) Secret(_, name string) (*corev1.Secret, error) {
	m, ok := o.secrets[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	s := &corev1.Secret{Data: map[string][]byte{}}
	for k, v := range m {
		s.Data[k] = []byte(v)
	}
	return s, nil
}

func TestEnvironment(t *testing.T) {
	yes := true
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	c := &corev1.Container{
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": quantity("1500m"), "memory": quantity("64Mi")}},
		EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("m")}},
			{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("s")}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("none"), Optional: &yes}},
		},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "over"},
			{Name: "B", Value: "$(A)/$(S_K)/$(LATER)"},
			{Name: "LATER", Value: "x"},
			{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "LABEL", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app/x']"}}},
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: quantity("1Mi")}}},
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("m"), Key: "A"}}},
			{Name: "NOKEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("s"), Key: "none", Optional: &yes}}},
		},
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", Labels: map[string]string{"app/x": "y"}}, Status: corev1.PodStatus{PodIP: "10.0.0.1"},
	}
	service := func(ns, name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{
			ClusterIP: "10.43.0.9", Ports: []corev1.ServicePort{{Name: "web-x", Port: 80, Protocol: corev1.ProtocolTCP}},
		}}
	}
	headless := service("ns", "headless")
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	s := surroundings{
		pod:     p,
		objects: objects{maps: map[string]map[string]string{"m": {"A": "from"}}, secrets: map[string]map[string]string{"s": {"K": "secret"}}},
		services: []*corev1.Service{
			service("ns", "redis-master"), service("other", "hidden"), service("default", "kubernetes"), headless,
		},
	}
	got, err := environment(c, s)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, e := range got {
		have[e.Name] = e.Value
	}
	want := map[string]string{
		"A": "over", "S_K": "secret", "B": "over/secret/$(LATER)", "LATER": "x", "NAME": "p", "LABEL": "y", "IP": "10.0.0.1",
		"CPU": "2", "MEM": "64", "KEY": "from",
	}
	for _, name := range []string{"REDIS_MASTER", "KUBERNETES"} {
		maps.Copy(want, map[string]string{
			name + "_SERVICE_HOST": "10.43.0.9", name + "_SERVICE_PORT": "80", name + "_SERVICE_PORT_WEB_X": "80",
			name + "_PORT": "tcp://10.43.0.9:80", name + "_PORT_80_TCP": "tcp://10.43.0.9:80",
			name + "_PORT_80_TCP_PROTO": "tcp", name + "_PORT_80_TCP_PORT": "80", name + "_PORT_80_TCP_ADDR": "10.43.0.9",
		})
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: "Z", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("none"), Key: "k"}}})
	if _, err := environment(c, s); !apierrors.IsNotFound(err) {
		t.Errorf("a missing Secret: %v", err)
	}
}

func TestPodResolver(t *testing.T) {
	dns := DNS{Servers: []string{"10.43.0.10", "10.43.0.11"}, Domain: "cluster.local"}
	machine := parseResolver([]byte("# x\nsearch lan\nnameserver 192.0.2.53\noptions timeout:1\n"))
	three := "3"
	for _, x := range []struct {
		name    string
		policy  corev1.DNSPolicy
		hostNet bool
		config  *corev1.PodDNSConfig
		want    string
	}{
		{"cluster", corev1.DNSClusterFirst, false, nil, "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.43.0.10\nnameserver 10.43.0.11\noptions ndots:5\n"},
		{"machine's network", corev1.DNSClusterFirst, true, nil, "search lan\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"default", corev1.DNSDefault, false, nil, "search lan\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"none", corev1.DNSNone, false, &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}, "nameserver 192.0.2.1\n"},
		{
			"with more", corev1.DNSClusterFirst, false,
			&corev1.PodDNSConfig{Searches: []string{"x"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &three}, {Name: "edns0"}}},
			"search ns.svc.cluster.local svc.cluster.local cluster.local x\nnameserver 10.43.0.10\nnameserver 10.43.0.11\noptions ndots:3 edns0\n",
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
			p.Spec.DNSPolicy, p.Spec.HostNetwork, p.Spec.DNSConfig = x.policy, x.hostNet, x.config
			r := podResolver(p, dns, machine)
			if diff := cmp.Diff(x.want, string(r.render())); diff != "" {
				t.Error(diff)
			}
		})
	}
}
