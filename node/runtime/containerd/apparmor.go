package containerd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"
	host "github.com/containerd/containerd/v2/pkg/apparmor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// defaultProfile is the name, in the kernel, of the profile of RuntimeDefault. It is made of containerd's template.
const defaultProfile = "shoal-default"

// AppArmor reports whether this machine enforces AppArmor profiles: the kernel does, and the program that loads profiles is there.
func AppArmor() bool { return host.HostSupports() }

// armour is the machine's AppArmor.
type armour struct {
	enforced bool
	// loaded is the file where the kernel lists the profiles it has.
	loaded string
	// load gives the kernel the profile of RuntimeDefault, unless it has it.
	load func(name string) error
}

func hostArmour() armour {
	return armour{enforced: AppArmor(), loaded: "/sys/kernel/security/apparmor/profiles", load: apparmor.LoadDefaultProfile}
}

// confine sets the AppArmor profile of a container: that of RuntimeDefault unless it, or its pod, says otherwise. Privileged containers have only what
// they name themselves. Where nothing is enforced, who names no profile has none.
func (a armour) confine(spec *specs.Spec, c runtime.ContainerConfig) error {
	var p *corev1.AppArmorProfile
	if c.PodSecurity != nil {
		p = c.PodSecurity.AppArmorProfile
	}
	if c.Security != nil && c.Security.AppArmorProfile != nil {
		p = c.Security.AppArmorProfile
	}
	switch {
	case p != nil && p.Type == corev1.AppArmorProfileTypeUnconfined:
		return nil
	case !a.enforced && p == nil:
		return nil
	case !a.enforced:
		return errors.New("AppArmor is not enabled on this machine")
	case p != nil && p.Type == corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			return errors.New("AppArmor profile of type Localhost without a name")
		}
		return a.use(spec, *p.LocalhostProfile)
	case privileged(c):
		return nil
	}
	if err := a.load(defaultProfile); err != nil {
		return fmt.Errorf("load the AppArmor profile of RuntimeDefault: %w", err)
	}
	spec.Process.ApparmorProfile = defaultProfile
	return nil
}

// use names a profile that somebody else has loaded.
func (a armour) use(spec *specs.Spec, name string) error {
	b, err := os.ReadFile(a.loaded)
	if err != nil {
		return fmt.Errorf("look for AppArmor profile %q: %w", name, err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if have, _, _ := strings.Cut(lines.Text(), " ("); have == name {
			spec.Process.ApparmorProfile = name
			return nil
		}
	}
	return fmt.Errorf("AppArmor profile %q is not loaded on this machine: load it there with apparmor_parser", name)
}
