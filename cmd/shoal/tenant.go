package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"shoal/internal/api"
	"shoal/internal/client"
)

// A tenant is a namespace with this label, and what is in it under tenantPart.
const (
	tenantLabel = "shoal/tenant"
	tenantPart  = "tenant" // the name of its quota, its limits, its binding and its network policy
)

type tenantCmd struct {
	Create tenantCreateCmd `cmd:"" help:"Make a tenant, or make one what the flags say."`
	Usage  tenantUsageCmd  `cmd:"" help:"Show what tenants use of what they may."`
}

type tenantCreateCmd struct {
	Name     string   `arg:"" help:"The tenant's name, and that of its namespace."`
	CPU      string   `placeholder:"CORES" help:"How much CPU its pods may request together, such as 4 or 500m."`
	Memory   string   `placeholder:"BYTES" help:"How much memory its pods may request, and be limited to, together, such as 8Gi."`
	Pods     *int64   `placeholder:"N" help:"How many pods it may have."`
	Users    []string `name:"user" placeholder:"NAME" help:"Who administers it. May be repeated."`
	Groups   []string `name:"group" placeholder:"NAME" help:"Which groups administer it. May be repeated."`
	Network  string   `enum:"own,open" default:"own" help:"Whom its pods reach, and who reaches them, unless further NetworkPolicies allow more: own (one another) or open (everybody)."`
	Security string   `enum:"restricted,baseline,privileged" default:"restricted" help:"The Pod Security Standard that its pods are held to: restricted, baseline or privileged. Of the first two none has NET_RAW."`
}

// Run makes a namespace, what it may have, what its containers get that ask for nothing, and who administers it.
func (c tenantCreateCmd) Run(ctx context.Context, g *Globals, std streams) error {
	objects, err := c.objects()
	if err != nil {
		return err
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	for _, o := range objects {
		text, err := json.Marshal(o.object)
		if err != nil {
			return err
		}
		_, err = conn.api.Patch(ctx, o.kind, client.KeyOf(o.object), client.Patch{Type: types.ApplyPatchType, Data: text}, client.PatchOptions{FieldManager: "shoal-tenant", Force: true})
		if err != nil {
			return fmt.Errorf("%s of tenant %s: %w\nWhat was made before stays; the same command goes on", o.kind.Singular, c.Name, err)
		}
	}
	fmt.Fprintf(std.out, "tenant %s: its pods are held to %q", c.Name, c.Security)
	if limits := c.hard(); len(limits) > 0 {
		fmt.Fprintf(std.out, ", and to %s", listOf(limits))
	} else {
		fmt.Fprint(std.out, ", and to no quota: give --cpu, --memory or --pods")
	}
	if c.Network == "own" {
		fmt.Fprint(std.out, "; they reach one another and nobody else: NetworkPolicies allow more, --network open all")
	}
	fmt.Fprintln(std.out)
	if len(c.Users)+len(c.Groups) == 0 {
		fmt.Fprintln(std.err, "Nobody but the cluster's administrators can use it: give --user or --group")
	}
	return nil
}

type tenantObject struct {
	kind   *api.Kind
	object api.Object
}

// objects are those that make the tenant, the namespace first.
func (c tenantCreateCmd) objects() ([]tenantObject, error) {
	if problems := validation.IsDNS1123Label(c.Name); len(problems) > 0 {
		return nil, usagef("%q is no name for a tenant: %s", c.Name, strings.Join(problems, "; "))
	}
	for flag, text := range map[string]string{"--cpu": c.CPU, "--memory": c.Memory} {
		if q, err := resource.ParseQuantity(cmp.Or(text, "0")); err != nil || q.Sign() < 0 {
			return nil, usagef("%s %q is no amount: write 4, 500m or 8Gi", flag, text)
		}
	}
	if c.Pods != nil && *c.Pods < 0 {
		return nil, usagef("--pods %d: there are no negative pods", *c.Pods)
	}
	meta := func(k *api.Kind, name string) (metav1.TypeMeta, metav1.ObjectMeta) {
		apiVersion, kind := k.ToAPIVersionAndKind()
		m := metav1.ObjectMeta{Name: name, Labels: map[string]string{tenantLabel: c.Name}}
		if k.Namespaced {
			m.Namespace = c.Name
		}
		return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}, m
	}
	ns, quota, limits, admins := &corev1.Namespace{}, &corev1.ResourceQuota{}, &corev1.LimitRange{}, &rbacv1.RoleBinding{}
	ns.TypeMeta, ns.ObjectMeta = meta(api.Namespaces, c.Name)
	ns.Labels["pod-security.kubernetes.io/enforce"] = c.Security
	if c.Security != "privileged" {
		ns.Labels[api.NetRawLabel] = api.NetRawDrop
	}
	quota.TypeMeta, quota.ObjectMeta = meta(api.ResourceQuotas, tenantPart)
	quota.Spec.Hard = c.hard()
	limits.TypeMeta, limits.ObjectMeta = meta(api.LimitRanges, tenantPart)
	limits.Spec.Limits = []corev1.LimitRangeItem{c.defaults()}
	admins.TypeMeta, admins.ObjectMeta = meta(api.RoleBindings, tenantPart)
	admins.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"}
	for _, name := range c.Users {
		admins.Subjects = append(admins.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name})
	}
	for _, name := range c.Groups {
		admins.Subjects = append(admins.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name})
	}
	network := c.network()
	network.TypeMeta, network.ObjectMeta = meta(api.NetworkPolicies, tenantPart)
	return []tenantObject{{api.Namespaces, ns}, {api.NetworkPolicies, network}, {api.ResourceQuotas, quota}, {api.LimitRanges, limits}, {api.RoleBindings, admins}}, nil
}

// network is the policy of all its pods.
func (c tenantCreateCmd) network() *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	peers := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	if c.Network == "open" {
		peers = nil // everybody
	}
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers}}
	p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers}}
	return p
}

// hard is what the tenant may have.
func (c tenantCreateCmd) hard() corev1.ResourceList {
	hard := corev1.ResourceList{}
	if c.CPU != "" {
		hard[corev1.ResourceRequestsCPU] = resource.MustParse(c.CPU)
	}
	if c.Memory != "" {
		hard[corev1.ResourceRequestsMemory], hard[corev1.ResourceLimitsMemory] = resource.MustParse(c.Memory), resource.MustParse(c.Memory)
	}
	if c.Pods != nil {
		hard[corev1.ResourcePods] = *resource.NewQuantity(*c.Pods, resource.DecimalSI)
	}
	return hard
}

// defaults are what containers get that do not say what they need: without, a quota would refuse them.
func (c tenantCreateCmd) defaults() corev1.LimitRangeItem {
	memory := resource.MustParse("256Mi")
	if c.Memory != "" {
		if all := resource.MustParse(c.Memory); all.Cmp(memory) < 0 {
			memory = all
		}
	}
	return corev1.LimitRangeItem{
		Type:           corev1.LimitTypeContainer,
		DefaultRequest: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: memory},
		Default:        corev1.ResourceList{corev1.ResourceMemory: memory},
	}
}

func listOf(l corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		q := l[name]
		parts = append(parts, fmt.Sprintf("%s=%s", name, q.String()))
	}
	return strings.Join(parts, ", ")
}

type tenantUsageCmd struct {
	Name   string `arg:"" optional:"" help:"One tenant."`
	Output string `short:"o" placeholder:"FORM" enum:",json" default:"" help:"json, for programs."`
}

// tenantUse is what a tenant uses of one thing.
type tenantUse struct {
	Tenant string `json:"tenant"`
	What   string `json:"what"`
	Used   string `json:"used"`
	Of     string `json:"of"`
	Part   int64  `json:"percent"`
}

// Run shows what the quotas of tenants say.
func (c tenantUsageCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	o := client.ListOptions{Namespace: c.Name}
	if o.Labels, err = labels.Parse(tenantLabel); err != nil {
		return err
	}
	l, err := conn.api.List(ctx, api.ResourceQuotas, o)
	if err != nil {
		return err
	}
	lines := []tenantUse{}
	for _, o := range l.Items {
		if q, ok := o.(*corev1.ResourceQuota); ok {
			lines = append(lines, usesOf(q)...)
		}
	}
	switch {
	case c.Output == "json":
		return encode(std.out, lines)
	case len(lines) == 0 && c.Name != "":
		return fmt.Errorf("%s is no tenant, or has no quota: shoal tenant create %s --cpu 4 --memory 8Gi --pods 50", c.Name, c.Name)
	case len(lines) == 0:
		fmt.Fprintln(std.err, "No tenants with a quota: shoal tenant create NAME --cpu 4 --memory 8Gi --pods 50")
		return nil
	}
	return printTenants(std.out, lines)
}

func usesOf(q *corev1.ResourceQuota) (lines []tenantUse) {
	for _, name := range slices.Sorted(maps.Keys(q.Spec.Hard)) {
		hard, used := q.Spec.Hard[name], q.Status.Used[name]
		line := tenantUse{Tenant: q.Labels[tenantLabel], What: string(name), Used: used.String(), Of: hard.String()}
		if !hard.IsZero() {
			line.Part = int64(used.AsApproximateFloat64()/hard.AsApproximateFloat64()*100 + .5)
		}
		lines = append(lines, line)
	}
	return lines
}

func printTenants(out io.Writer, lines []tenantUse) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "TENANT\tWHAT\tUSED\tOF\t")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d%%\n", l.Tenant, l.What, l.Used, l.Of, l.Part)
	}
	return w.Flush()
}
