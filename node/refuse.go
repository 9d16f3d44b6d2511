package node

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// refuses says why a container cannot be run as it asks: what would make it another one if it were ignored. fields_test.go lists every field.
func refuses(p *corev1.Pod, c *corev1.Container) error {
	no := func(field, why string) error { return fmt.Errorf("%s: %s", field, why) }
	switch s := &p.Spec; {
	case s.HostUsers != nil && !*s.HostUsers:
		return no("spec.hostUsers", "user namespaces are not supported: remove it")
	case len(s.ResourceClaims) > 0:
		return no("spec.resourceClaims", "dynamic resource allocation is not supported: remove it")
	case s.OS != nil && s.OS.Name != corev1.Linux:
		return no("spec.os.name", fmt.Sprintf("this machine runs linux, not %s", s.OS.Name))
	}
	at := "container " + c.Name + ": "
	switch {
	case len(c.VolumeDevices) > 0:
		return no(at+"volumeDevices", "block devices are not supported: mount a volume of volumeMode Filesystem")
	case len(c.RestartPolicyRules) > 0:
		return no(at+"restartPolicyRules", "rules by exit code are not supported: use the pod's restartPolicy")
	case len(c.Resources.Claims) > 0:
		return no(at+"resources.claims", "dynamic resource allocation is not supported: remove it")
	}
	for i := range c.Env {
		if f := c.Env[i].ValueFrom; f != nil && f.FileKeyRef != nil {
			return no(at+"env "+c.Env[i].Name+": fileKeyRef", "variables from files are not supported: use a configMapKeyRef or secretKeyRef")
		}
	}
	return nil
}

// unarmoured says why a pod cannot have the AppArmor profiles that it names.
func (n *Node) unarmoured(p *corev1.Pod) (reason, message string) {
	if n.cfg.Machine.AppArmor {
		return "", ""
	}
	confines := func(a *corev1.AppArmorProfile) bool {
		return a != nil && a.Type != corev1.AppArmorProfileTypeUnconfined
	}
	named := p.Spec.SecurityContext != nil && confines(p.Spec.SecurityContext.AppArmorProfile)
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		named = named || c.SecurityContext != nil && confines(c.SecurityContext.AppArmorProfile)
	}
	if !named {
		return "", ""
	}
	return "AppArmor", "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
}

// handles makes sure that a pod's RuntimeClass is one that this machine has.
func (n *Node) handles(ctx context.Context, p *corev1.Pod) error {
	name := p.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return nil
	}
	o, err := n.cfg.Client.Get(ctx, api.RuntimeClasses, client.Key{Name: *name}, client.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("spec.runtimeClassName: there is no RuntimeClass %q", *name)
	}
	if err != nil {
		return fmt.Errorf("read RuntimeClass %q: %w", *name, err)
	}
	class, ok := o.(*nodev1.RuntimeClass)
	if !ok {
		return fmt.Errorf("read RuntimeClass %q: answer is a %T", *name, o)
	}
	if class.Handler != n.cfg.Handler {
		return fmt.Errorf("spec.runtimeClassName: no runtime for %q is configured, only %s", class.Handler, n.cfg.Handler)
	}
	return nil
}
