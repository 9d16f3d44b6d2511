package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"shoal/internal/api"
)

type peersCmd struct {
	Output string `short:"o" enum:"table,json,name" default:"table" help:"table, json or name."`
}

func (c *conn) peers(ctx context.Context) (api.PeerList, error) {
	var list api.PeerList
	err := c.json(ctx, request{method: "GET", path: "/shoal/v1/peers"}, &list)
	return list, err
}

func (c peersCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	list, err := conn.peers(ctx)
	if err != nil {
		return err
	}
	switch c.Output {
	case "json":
		return json.NewEncoder(std.out).Encode(list)
	case "name":
		for _, p := range list.Peers {
			fmt.Fprintln(std.out, p.Name)
		}
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESS\tROLE\tSTATE\tSINCE\tZONE\tVERSION")
	for _, p := range list.Peers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Address, p.Role, p.State,
			duration.HumanDuration(time.Since(p.Since)), orDash(p.Zone), orDash(p.Version))
	}
	return w.Flush()
}

type statusCmd struct{}

// Run says in a few lines how the cluster is; it fails when the cluster cannot accept writes.
func (c statusCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	list, err := conn.peers(ctx)
	if err != nil {
		return err
	}
	roles := map[string]int{}
	var away, unsteady, disks []string
	for _, p := range list.Peers {
		roles[p.Role]++
		if p.Disk != "" {
			disks = append(disks, fmt.Sprintf("%s (%s)", p.Name, p.Disk))
		}
		if p.Unsteady != nil {
			unsteady = append(unsteady, fmt.Sprintf("%s (for another %s)", p.Name, duration.HumanDuration(time.Until(*p.Unsteady))))
		}
		if p.State != api.Alive {
			away = append(away, fmt.Sprintf("%s (%s)", p.Name, p.State))
		}
	}
	slices.Sort(away)
	fmt.Fprintf(std.out, "Cluster %s, as %s sees it\n", list.ClusterID, list.Peer)
	fmt.Fprintf(std.out, "Peers:   %d, %d of them voters\n", len(list.Peers), roles[api.RoleVoter]+roles[api.RoleMaster])
	if len(away) > 0 {
		fmt.Fprintf(std.out, "Away:    %s\n", strings.Join(away, ", "))
	}
	if len(unsteady) > 0 {
		fmt.Fprintf(std.out, "Unsteady, so pods avoid them: %s\n", strings.Join(unsteady, ", "))
	}
	if len(disks) > 0 {
		fmt.Fprintf(std.out, "Disks:   slow or full: %s\n", strings.Join(disks, ", "))
	}
	fmt.Fprintf(std.out, "Master:  %s (term %d)\nVersion: %s, revision %d\n", orDash(list.Master), list.Term, list.Version, list.Revision)
	if err := conn.podSummary(ctx, std); err != nil {
		return err
	}
	if !list.Quorum {
		return fmt.Errorf("no Master can be reached: reads are served from what %s knows, writes are refused", list.Peer)
	}
	return nil
}

func (c *conn) podSummary(ctx context.Context, std streams) error {
	var pods corev1.PodList
	if err := c.json(ctx, request{method: "GET", path: path(api.Pods, "", "")}, &pods); err != nil {
		return err
	}
	ready := 0
	for _, p := range pods.Items {
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	_, err := fmt.Fprintf(std.out, "Pods:    %d, %d ready\n", len(pods.Items), ready)
	return err
}
