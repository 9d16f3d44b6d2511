package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

type removeCmd struct {
	Peer  string `arg:"" help:"The machine's name."`
	Force bool   `help:"Also a machine that answers and has pods: they are replaced elsewhere, and run on there until somebody ends them."`
}

// Run takes a machine out of the cluster for good.
func (c removeCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(strings.TrimPrefix(c.Peer, "node/"), "nodes/")
	list, err := conn.peers(ctx)
	if err != nil {
		return err
	}
	voted, alive := false, false
	for _, p := range list.Peers {
		if p.Name == name {
			voted, alive = p.Role == api.RoleVoter || p.Role == api.RoleMaster, p.State == api.Alive
		}
	}
	if alive && !c.Force {
		if err := conn.mayGo(ctx, name); err != nil {
			return err
		}
	}
	for tries := 0; ; tries++ {
		err := conn.json(ctx, request{method: "DELETE", path: "/shoal/v1/peers/" + url.PathEscape(name)}, &struct{}{})
		if err == nil {
			break
		}
		// The Master does not remove itself: it hands its role over first.
		if tries == 3 || !strings.Contains(err.Error(), "ask again") {
			return err
		}
	}
	fmt.Fprintf(std.out, "%s is removed: its certificate is refused from now on, and gossip's key and that of Secrets are being changed.\n", name)
	if voted {
		fmt.Fprintf(std.out, "It voted, so its disk has the CA's key: if others may have that disk, run shoal rotate ca.\n")
	}
	return nil
}

// mayGo returns why a machine that answers should not go yet: it has pods that others would have to run.
func (c *conn) mayGo(ctx context.Context, name string) error {
	var pods corev1.PodList
	if err := c.json(ctx, request{method: "GET", path: path(api.Pods, "", ""), query: url.Values{"fieldSelector": {"spec.nodeName=" + name}}}, &pods); err != nil {
		return err
	}
	n := 0
	for i := range pods.Items {
		p := &pods.Items[i]
		owner := metav1.GetControllerOf(p)
		if p.Annotations[corev1.MirrorPodAnnotationKey] == "" && (owner == nil || owner.Kind != "DaemonSet") && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s answers and runs %d pods: move them first, with: shoal drain %s; or give --force", name, n, name)
}
