package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// netRaw takes NET_RAW, which containers have unless somebody says otherwise, from those of namespaces whose label says so: with it a container
// sends packets in the name of others. Pod Security has nothing between "baseline", which lets it be, and "restricted", which asks for the loss of all
// capabilities, and who knows it from elsewhere expects no more of it; so a label of its own decides.
//
// What is taken is to be seen in the pod. A pod that is applied again comes without: it is taken again, so that there is no difference. Templates stay as they are,
// since nobody runs them.
type netRaw struct{ reader Reader }

// Admit implements Plugin.
func (n netRaw) Admit(ctx context.Context, r *Request) error {
	if r.Kind != api.Pods || r.Operation == Delete || r.Subresource != "" && r.Subresource != "ephemeralcontainers" {
		return nil
	}
	p := r.Object.(*corev1.Pod)
	if p.Spec.OS != nil && p.Spec.OS.Name == corev1.Windows {
		return nil
	}
	o, err := find(ctx, n.reader, api.Namespaces, client.Key{Name: r.Key.Namespace})
	if apierrors.IsNotFound(err) {
		return nil // which is refused elsewhere
	}
	if err != nil {
		return err
	}
	if o.GetLabels()[api.NetRawLabel] != api.NetRawDrop {
		return nil
	}
	old, _ := r.OldObject.(*corev1.Pod)
	for name, context := range securityContexts(p) {
		if was, ok := securityOf(old, name); ok {
			// It runs already, and nothing about it can be changed.
			if dropsNetRaw(was) && !dropsNetRaw(*context) {
				dropNetRaw(context)
			}
			continue
		}
		if by := keepsNetRaw(*context); by != "" {
			return r.forbidden(fmt.Errorf("container %q has NET_RAW by %s, and the namespace's label %s=%s says that none has", name, by, api.NetRawLabel, api.NetRawDrop))
		}
		if !dropsNetRaw(*context) {
			dropNetRaw(context)
		}
	}
	return nil
}

// securityContexts yields where each container's security context is, by the container's name.
func securityContexts(p *corev1.Pod) map[string]**corev1.SecurityContext {
	all := map[string]**corev1.SecurityContext{}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			all[list[i].Name] = &list[i].SecurityContext
		}
	}
	for i := range p.Spec.EphemeralContainers {
		c := &p.Spec.EphemeralContainers[i]
		all[c.Name] = &c.SecurityContext
	}
	return all
}

// securityOf returns the security context of a pod's container; false when there is no such container.
func securityOf(p *corev1.Pod, container string) (*corev1.SecurityContext, bool) {
	if p == nil {
		return nil, false
	}
	c, ok := securityContexts(p)[container]
	if !ok {
		return nil, false
	}
	return *c, true
}

func dropsNetRaw(c *corev1.SecurityContext) bool {
	return c != nil && c.Capabilities != nil && slices.ContainsFunc(c.Capabilities.Drop, isNetRaw)
}

// dropNetRaw changes a copy: the object may share parts with what is stored.
func dropNetRaw(at **corev1.SecurityContext) {
	c := (*at).DeepCopy()
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	if c.Capabilities == nil {
		c.Capabilities = &corev1.Capabilities{}
	}
	c.Capabilities.Drop = append(c.Capabilities.Drop, "NET_RAW")
	*at = c
}

// keepsNetRaw returns what of a security context gives NET_RAW whatever is dropped, or is against its loss.
func keepsNetRaw(c *corev1.SecurityContext) string {
	switch {
	case c == nil:
		return ""
	case c.Privileged != nil && *c.Privileged:
		return "securityContext.privileged"
	case c.Capabilities != nil && slices.ContainsFunc(c.Capabilities.Add, isNetRaw):
		return "securityContext.capabilities.add"
	}
	return ""
}

// isNetRaw reports whether a capability is NET_RAW or all, in any of the ways in which machines understand it.
func isNetRaw(c corev1.Capability) bool {
	name := strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
	return name == "NET_RAW" || name == "ALL"
}
