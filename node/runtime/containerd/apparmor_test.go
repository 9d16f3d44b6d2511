package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

func TestAppArmorProfiles(t *testing.T) {
	list := filepath.Join(t.TempDir(), "profiles")
	if err := os.WriteFile(list, []byte("nginx (enforce)\n/usr/bin/man (complain)\nweb server (enforce)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	profile := func(kind corev1.AppArmorProfileType, name ...string) *corev1.AppArmorProfile {
		p := &corev1.AppArmorProfile{Type: kind}
		for i := range name {
			p.LocalhostProfile = &name[i]
		}
		return p
	}
	runtimeDefault, unconfined := profile(corev1.AppArmorProfileTypeRuntimeDefault), profile(corev1.AppArmorProfileTypeUnconfined)
	localhost := func(name string) *corev1.AppArmorProfile { return profile(corev1.AppArmorProfileTypeLocalhost, name) }
	for name, x := range map[string]struct {
		pod, own   *corev1.AppArmorProfile
		privileged bool
		without    bool // the machine has no AppArmor
		load       error
		want       string
		err        string
	}{
		"nothing":                        {want: defaultProfile},
		"nothing, no AppArmor":           {without: true},
		"default, no AppArmor":           {own: runtimeDefault, without: true, err: "AppArmor is not enabled on this machine"},
		"localhost, no AppArmor":         {pod: localhost("nginx"), without: true, err: "AppArmor is not enabled on this machine"},
		"unconfined, no AppArmor":        {own: unconfined, without: true},
		"unconfined":                     {own: unconfined},
		"the pod's":                      {pod: localhost("nginx"), want: "nginx"},
		"its own before the pod's":       {pod: localhost("nginx"), own: runtimeDefault, want: defaultProfile},
		"unconfined before the pod's":    {pod: localhost("nginx"), own: unconfined},
		"name with a blank":              {own: localhost("web server"), want: "web server"},
		"only the beginning of a name":   {own: localhost("web"), err: `"web" is not loaded on this machine`},
		"not loaded":                     {own: localhost("mine"), err: `"mine" is not loaded on this machine: load it there with apparmor_parser`},
		"no name":                        {own: profile(corev1.AppArmorProfileTypeLocalhost), err: "without a name"},
		"privileged":                     {privileged: true},
		"privileged, default by its pod": {privileged: true, pod: runtimeDefault},
		"privileged, with a name":        {privileged: true, own: localhost("nginx"), want: "nginx"},
		"cannot be loaded":               {load: errors.New("no parser"), err: "load the AppArmor profile of RuntimeDefault: no parser"},
	} {
		t.Run(name, func(t *testing.T) {
			var loaded []string
			a := armour{enforced: !x.without, loaded: list, load: func(name string) error {
				loaded = append(loaded, name)
				return x.load
			}}
			spec := &specs.Spec{Process: &specs.Process{}}
			err := a.confine(spec, runtime.ContainerConfig{
				Security:    &corev1.SecurityContext{AppArmorProfile: x.own, Privileged: &x.privileged},
				PodSecurity: &corev1.PodSecurityContext{AppArmorProfile: x.pod},
			})
			if (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
				t.Fatalf("error %v, want %q", err, x.err)
			}
			if spec.Process.ApparmorProfile != x.want {
				t.Errorf("profile %q, want %q", spec.Process.ApparmorProfile, x.want)
			}
			if x.want == defaultProfile && len(loaded) != 1 {
				t.Errorf("loaded: %q", loaded)
			}
		})
	}
}

// TestAContainerHasItsAppArmorProfile: what is decided reaches the program that makes containers.
func TestAContainerHasItsAppArmorProfile(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	if AppArmor() {
		m.says(m.run(m.containerConfig("a", "app")), "serving")
		return
	}
	m.armour = armour{enforced: true, load: func(string) error { return nil }}
	c := m.run(m.containerConfig("a", "app"))
	if c.Reason != startError || !strings.Contains(strings.ToLower(c.Message), "apparmor") {
		t.Errorf("a profile on a machine without AppArmor: %+v", c)
	}
}
