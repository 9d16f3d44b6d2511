package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

func TestWhatCannotBeHonouredIsRefused(t *testing.T) {
	for field, change := range map[string]func(p *corev1.Pod, c *corev1.Container){
		"spec.hostUsers": func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostUsers = new(bool) },
		"spec.resourceClaims": func(p *corev1.Pod, _ *corev1.Container) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu"}}
		},
		"spec.os.name":                    func(p *corev1.Pod, _ *corev1.Container) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} },
		"container c: volumeDevices":      func(_ *corev1.Pod, c *corev1.Container) { c.VolumeDevices = []corev1.VolumeDevice{{Name: "disk"}} },
		"container c: restartPolicyRules": func(_ *corev1.Pod, c *corev1.Container) { c.RestartPolicyRules = []corev1.ContainerRestartRule{{}} },
		"container c: resources.claims":   func(_ *corev1.Pod, c *corev1.Container) { c.Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}} },
		"container c: env A: fileKeyRef": func(_ *corev1.Pod, c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{}}}}
		},
	} {
		p := newPod("a")
		if err := refuses(p, &p.Spec.Containers[0]); err != nil {
			t.Fatalf("a plain pod: %v", err)
		}
		change(p, &p.Spec.Containers[0])
		if err := refuses(p, &p.Spec.Containers[0]); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestARefusalIsShownOnThePod(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) { p.Spec.HostUsers = new(bool) })
		w.settle()
		p := w.get("a")
		if s := p.Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != runtime.ReasonConfig || !strings.HasPrefix(s.Message, "spec.hostUsers: ") {
			t.Errorf("waiting: %+v", s)
		}
	})
}

// TestAppArmorWhereTheMachineHasNone: a pod that names a profile is rejected, for good, as by a kubelet.
func TestAppArmorWhereTheMachineHasNone(t *testing.T) {
	inWorld(t, func(w *world) {
		profile := func(kind corev1.AppArmorProfileType) *corev1.AppArmorProfile {
			return &corev1.AppArmorProfile{Type: kind}
		}
		named, unconfined := profile(corev1.AppArmorProfileTypeRuntimeDefault), profile(corev1.AppArmorProfileTypeUnconfined)
		w.pod("pod", func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: named} })
		w.pod("container", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: named}
		})
		w.pod("unconfined", func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: unconfined} })
		w.settle()
		w.wantRunning("unconfined")
		for _, name := range []string{"pod", "container"} {
			if s := w.get(name).Status; s.Phase != corev1.PodFailed || s.Reason != "AppArmor" || !strings.HasSuffix(s.Message, "AppArmor is not enabled on the host") {
				t.Errorf("%s: %s %s %q", name, s.Phase, s.Reason, s.Message)
			}
		}
	})
}

func TestRuntimeClassesOfThisMachine(t *testing.T) {
	inWorld(t, func(w *world) {
		for name, handler := range map[string]string{"own": "runc", "other": "gvisor"} {
			w.create(api.RuntimeClasses, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler})
		}
		for _, name := range []string{"own", "other", "none"} {
			w.pod(name, func(p *corev1.Pod) { p.Spec.RuntimeClassName = &name })
		}
		w.settle()
		w.wantRunning("own")
		for _, name := range []string{"other", "none"} {
			if p := w.get(name); p.Status.Phase != corev1.PodPending || len(w.held()) != 1 {
				t.Errorf("%s: %s", name, brief(p))
			}
		}
	})
}

func TestNamesOfPodsOnTheirMachines(t *testing.T) {
	n := New(Config{Machine: Machine{Name: "machine"}})
	p := newPod("a")
	p.Spec.Hostname, p.Spec.Subdomain = "db-0", "db"
	named := func(want string) {
		t.Helper()
		if c, err := n.sandboxConfig(p); err != nil || c.Hostname != want {
			t.Errorf("%q, %v, want %q", c.Hostname, err, want)
		}
	}
	named("db-0")
	p.Spec.SetHostnameAsFQDN = new(true)
	named("db-0.db.default.svc.cluster.local")
	p.Namespace = strings.Repeat("n", 40)
	if _, err := n.sandboxConfig(p); err == nil || !strings.Contains(err.Error(), "spec.setHostnameAsFQDN") {
		t.Errorf("a name that is too long: %v", err)
	}
	p.Spec.HostNetwork = true
	named("machine")
}

func TestAProbesOwnGrace(t *testing.T) {
	p := newPod("a")
	p.Spec.RestartPolicy, p.Spec.TerminationGracePeriodSeconds = corev1.RestartPolicyAlways, new(int64(30))
	for own, want := range map[int64]int{0: 30, 7: 7} {
		o := up(run("c", 0, -1))
		o.probes["c.0"] = probeResult{started: true, failed: "it failed", grace: own}
		if a := step(desired{pod: p}, o, at(20)); a.verb != stop || int(a.grace.Seconds()) != want {
			t.Errorf("%+v, want a stop within %d s", a, want)
		}
	}
}
