package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"shoal/internal/api"
)

// judge says what of a cluster's objects somebody should look at.
func judge(f *facts) []finding {
	all := []finding{
		{Item: "5.1.1", What: "cluster-admin is only where it must be", How: "bindings of the role cluster-admin", Found: f.administrators()},
		{Item: "5.1.2", What: "few may read all Secrets", How: "who may list Secrets in all namespaces", Found: f.readersOfSecrets()},
		{Item: "5.1.3", What: "Roles say what they allow", How: "Roles with * for verbs or resources, but the cluster's own", Found: f.wildcards()},
		{Item: "5.1.5", What: "the service accounts called default have no rights", How: "bindings to them, and to all accounts", Found: f.rightsOfAll()},
		{Item: "5.2.1", What: "namespaces enforce a Pod Security Standard", How: "label pod-security.kubernetes.io/enforce of namespaces that have pods", Found: f.unenforced()},
		{Item: "5.2.2", What: "no pod is its machine's master", How: "pods that are privileged, in their machine's namespaces, or mount its root, but in kube-*", Found: f.privileged()},
		{Item: "5.3.2", What: "namespaces have NetworkPolicies", How: "namespaces that have pods, and no policy that selects them all", Found: f.unguarded()},
		{Item: "5.4.1", What: "Secrets are files, not variables", How: "containers with variables from Secrets", Found: f.secretVariables()},
		{Item: "5.7.4", What: "the namespace default is not used", How: "pods in it", Found: f.inDefault()},
		{What: "users' tokens end", How: "shoal user list", Found: f.endlessTokens()},
		{What: "no token for joining is left", How: "shoal token list", Found: f.joinTokens()},
		{What: "the keys of the cluster are younger than a year, and none is about to be replaced", How: "shoal rotate status", Found: f.oldKeys(time.Now())},
		{Item: "1.2.27", What: "Secrets are encrypted before they are written, with a key that only voters have", How: "shoal rotate secrets --status", Found: f.clearSecrets()},
	}
	for i := range all {
		all[i].Verdict = verdictOK
		if len(all[i].Found) > 0 {
			all[i].Verdict = verdictLook
		}
		slices.Sort(all[i].Found)
	}
	return all
}

// clearSecrets says how Secrets are kept where it is not the way they should be.
func (f *facts) clearSecrets() []string {
	switch {
	case f.sealing.Key == "":
		return []string{"they are in clear in the log, in snapshots and on every replica, since this cluster is older than that: shoal rotate secrets"}
	case f.sealing.Others > 0:
		return []string{fmt.Sprintf("%d of %d are in clear or under an earlier key: shoal rotate secrets", f.sealing.Others, f.sealing.Secrets)}
	}
	return nil
}

func (b binding) String() string {
	if b.namespace == "" {
		return "ClusterRoleBinding " + b.name
	}
	return "RoleBinding " + b.namespace + "/" + b.name
}

func (f *facts) administrators() (out []string) {
	for _, b := range f.bindings {
		if b.role.Kind != "ClusterRole" || b.role.Name != "cluster-admin" {
			continue
		}
		for _, s := range b.subjects {
			if s.Kind == rbacv1.GroupKind && s.Name == "system:masters" {
				continue
			}
			out = append(out, fmt.Sprintf("%s by %s", subjectText(s), b))
		}
	}
	return out
}

func subjectText(s rbacv1.Subject) string {
	if s.Namespace != "" {
		return s.Kind + " " + s.Namespace + "/" + s.Name
	}
	return s.Kind + " " + s.Name
}

func (f *facts) readersOfSecrets() (out []string) {
	for _, h := range f.secrets {
		if strings.HasPrefix(h.Name, "system:") { // the cluster's own
			continue
		}
		name := h.Name
		if h.Namespace != "" {
			name = h.Namespace + "/" + name
		}
		out = append(out, fmt.Sprintf("%s %s by %s", h.Kind, name, h.Binding))
	}
	return out
}

func (f *facts) wildcards() (out []string) {
	wild := func(rules []rbacv1.PolicyRule) bool {
		return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.Verbs, "*") || slices.Contains(r.Resources, "*")
		})
	}
	for _, r := range f.clusterRoles {
		if r.Name != "cluster-admin" && !strings.HasPrefix(r.Name, "system:") && wild(r.Rules) {
			out = append(out, "ClusterRole "+r.Name)
		}
	}
	for _, r := range f.roles {
		if wild(r.Rules) {
			out = append(out, "Role "+r.Namespace+"/"+r.Name)
		}
	}
	return out
}

func (f *facts) rightsOfAll() (out []string) {
	for _, b := range f.bindings {
		for _, s := range b.subjects {
			everybody := s.Kind == rbacv1.GroupKind && (strings.HasPrefix(s.Name, "system:serviceaccounts") || s.Name == "system:authenticated" || s.Name == "system:unauthenticated")
			if s.Kind == rbacv1.ServiceAccountKind && s.Name == "default" || everybody {
				out = append(out, fmt.Sprintf("%s by %s", subjectText(s), b))
			}
		}
	}
	return out
}

// populated are the namespaces, but the cluster's own, that have pods.
func (f *facts) populated() (out []*corev1.Namespace) {
	for _, ns := range f.namespaces {
		if !own(ns.Name) && slices.ContainsFunc(f.pods, func(p *corev1.Pod) bool { return p.Namespace == ns.Name }) {
			out = append(out, ns)
		}
	}
	return out
}

func (f *facts) unenforced() (out []string) {
	for _, ns := range f.populated() {
		if level := ns.Labels["pod-security.kubernetes.io/enforce"]; level != "baseline" && level != "restricted" {
			out = append(out, fmt.Sprintf("%s: kubectl label ns %[1]s pod-security.kubernetes.io/enforce=baseline", ns.Name))
		}
	}
	return out
}

func (f *facts) unguarded() (out []string) {
	for _, ns := range f.populated() {
		if !slices.ContainsFunc(f.policies, func(p *networkingv1.NetworkPolicy) bool {
			return p.Namespace == ns.Name && len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0
		}) {
			out = append(out, ns.Name)
		}
	}
	return out
}

func (f *facts) privileged() (out []string) {
	for _, p := range f.pods {
		if own(p.Namespace) {
			continue
		}
		var why []string
		add := func(is bool, what string) {
			if is && !slices.Contains(why, what) {
				why = append(why, what)
			}
		}
		add(p.Spec.HostNetwork, "hostNetwork")
		add(p.Spec.HostPID, "hostPID")
		add(p.Spec.HostIPC, "hostIPC")
		for i := range p.Spec.Volumes {
			v := p.Spec.Volumes[i].HostPath
			add(v != nil, "hostPath")
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			s := c.SecurityContext
			add(s != nil && s.Privileged != nil && *s.Privileged, "privileged")
		}
		if len(why) > 0 {
			out = append(out, fmt.Sprintf("pod %s/%s: %s", p.Namespace, p.Name, strings.Join(why, ", ")))
		}
	}
	return out
}

func (f *facts) secretVariables() (out []string) {
	for _, p := range f.pods {
		uses := func(c corev1.Container) bool {
			return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil }) ||
				slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil })
		}
		if slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), uses) {
			out = append(out, fmt.Sprintf("pod %s/%s", p.Namespace, p.Name))
		}
	}
	return out
}

func (f *facts) inDefault() (out []string) {
	for _, p := range f.pods {
		if p.Namespace == corev1.NamespaceDefault && !api.IsPodTerminal(p) {
			out = append(out, "pod "+p.Name)
		}
	}
	return out
}

func (f *facts) endlessTokens() (out []string) {
	for _, u := range f.users {
		if u.Expires == nil {
			out = append(out, fmt.Sprintf("%s, token %s: shoal user revoke %[1]s --token %[2]s", u.User, u.ID))
		}
	}
	return out
}

// oldKeys are those that were not rotated for a year, and rotations that are under way. Who never rotated has keys as old as the cluster.
func (f *facts) oldKeys(now time.Time) (out []string) {
	made := now
	for _, n := range f.namespaces {
		if n.Name == "kube-system" {
			made = n.CreationTimestamp.Time
		}
	}
	for _, r := range f.rotations {
		since := made
		if r.Finished != nil {
			since = *r.Finished
		}
		switch {
		case r.ID != "" && r.Phase != api.RotationDone:
			out = append(out, rotationLine(&r, now))
		case now.Sub(since) > 365*24*time.Hour:
			out = append(out, fmt.Sprintf("%s: as it is since %s: shoal rotate %[1]s", r.What, since.Format(time.DateOnly)))
		}
	}
	return out
}

func (f *facts) joinTokens() (out []string) {
	for _, t := range f.tokens {
		out = append(out, fmt.Sprintf("%s, good for %d machines until %s: shoal token revoke %[1]s", t.ID, t.UsesLeft, t.Expires.Format(time.RFC3339)))
	}
	return out
}
