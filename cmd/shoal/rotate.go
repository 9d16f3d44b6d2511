package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"shoal/internal/api"
	"shoal/internal/lab"
)

type rotateCmd struct {
	Gossip  rotateGossipCmd  `cmd:"" help:"Give gossip a new key, and have every machine forget the old one. Ending the command does not stop it."`
	CA      rotateCACmd      `cmd:"" name:"ca" help:"Give the cluster a new CA. What the old one signed stays good for the overlap. Ending the command does not stop it."`
	Secrets rotateSecretsCmd `cmd:"" help:"Seal all Secrets with a new key, also those of a cluster that kept them in clear."`
	Status  rotateStatusCmd  `cmd:"" help:"Say how far the last rotations are, and who is waited for."`
}

// rotateFlags are those of every rotation.
type rotateFlags struct {
	Without []string `placeholder:"NAME" help:"A machine that is not waited for. It gets what is new when it comes back, if it still can. May be repeated."`
	Output  string   `short:"o" enum:"table,json" default:"table" help:"table or json (one object a line, whenever something has changed)."`
}

type rotateGossipCmd struct{ rotateFlags }

func (c rotateGossipCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	return conn.rotate(ctx, std, api.RotateGossip, c.Output, api.RotationRequest{Without: c.Without})
}

type rotateCACmd struct {
	rotateFlags
	Overlap time.Duration `placeholder:"DURATION" help:"For how long what the old CA signed stays good; by default for the life of an administrator's certificate. Programs in pods that read the CA once, at their start, have to be started anew within it."`
	Finish  bool          `help:"End the overlap of the rotation under way now: who has nothing of the new CA by then is refused."`
}

func (c rotateCACmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.Overlap < 0 || c.Overlap > 0 && c.Overlap < time.Second {
		return usagef("--overlap must be at least 1s, not %v", c.Overlap)
	}
	if c.Overlap > 0 && c.Finish {
		return usagef("--finish ends the overlap, whose length --overlap says: give one of them")
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	err = conn.rotate(ctx, std, api.RotateCA, c.Output, api.RotationRequest{
		Without: c.Without, OverlapSeconds: int64(c.Overlap.Seconds()), Finish: c.Finish,
	})
	if err != nil || !conn.lab {
		return err
	}
	return lab.RefreshKubeconfig()
}

type rotateStatusCmd struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json (one object a line)."`
}

func (c rotateStatusCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	all, err := conn.rotations(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := printRotation(std, c.Output, r); err != nil {
			return err
		}
	}
	return nil
}

// rotate begins a rotation, or finds one under way, and shows how it goes until it is where it need not be followed any more.
func (c *conn) rotate(ctx context.Context, std streams, what, output string, req api.RotationRequest) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	var r api.Rotation
	if err := c.json(ctx, request{method: "POST", path: "/shoal/v1/rotations/" + what, ctype: "application/json", body: body}, &r); err != nil {
		return err
	}
	id := r.ID
	for {
		if err := printRotation(std, output, r); err != nil {
			return err
		}
		if r.Phase == api.RotationDone || r.Phase == api.RotationOverlap && !req.Finish || r.ID != id {
			return nil
		}
		if r, err = c.nextRotation(ctx, what, r.Version); err != nil {
			if what == api.RotateCA && ctx.Err() == nil {
				err = fmt.Errorf("%w\nIf the old CA is forgotten by now, what this command has is, too: get a new kubeconfig with shoal kubeconfig, on a machine whose peer votes", err)
			}
			return fmt.Errorf("%w\nThe rotation goes on all the same: shoal rotate status", err)
		}
	}
}

// rotationPatience is for how long nobody may be able to say how a rotation goes: the Master may die meanwhile.
const rotationPatience = time.Minute

// nextRotation waits for another version of a rotation's status.
func (c *conn) nextRotation(ctx context.Context, what, version string) (api.Rotation, error) {
	for end := time.Now().Add(rotationPatience); ; {
		r, err := c.rotation(ctx, what, version)
		switch {
		case err == nil && r.Version != version:
			return r, nil
		case err == nil:
			end = time.Now().Add(rotationPatience)
			continue
		case time.Now().After(end):
			return r, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

func (c *conn) rotation(ctx context.Context, what, version string) (r api.Rotation, err error) {
	err = c.json(ctx, request{method: "GET", path: "/shoal/v1/rotations/" + what, query: url.Values{"not": {version}}}, &r)
	return r, err
}

// rotations is how far the last rotation of everything is that can be rotated.
func (c *conn) rotations(ctx context.Context) (all []api.Rotation, err error) {
	for _, what := range []string{api.RotateGossip, api.RotateCA} {
		r, err := c.rotation(ctx, what, "")
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func printRotation(std streams, output string, r api.Rotation) error {
	if output == "json" {
		return json.NewEncoder(std.out).Encode(r)
	}
	_, err := fmt.Fprintln(std.out, rotationLine(&r, time.Now()))
	return err
}

// rotationLine says in one line how far a rotation is.
func rotationLine(r *api.Rotation, now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: ", r.What)
	switch {
	case r.ID == "":
		return out.String() + "never rotated"
	case r.Phase == api.RotationOverlap:
		out.WriteString("the new one is in use, what is of the old one is good")
	case r.Phase == api.RotationDone && r.Finished != nil:
		fmt.Fprintf(&out, "rotated %s ago", duration.HumanDuration(now.Sub(*r.Finished)))
	default:
		fmt.Fprintf(&out, "%s: %d of %d machines", r.Phase, r.Peers-len(r.Waiting), r.Peers)
	}
	if r.Until != nil && r.Phase == api.RotationOverlap {
		fmt.Fprintf(&out, ", until %s", r.Until.Local().Format(time.DateTime))
	}
	for i, w := range r.Waiting {
		fmt.Fprintf(&out, "%s%s (%s)", map[bool]string{true: "; waiting for ", false: ", "}[i == 0], printable(w.Peer), printable(w.Why))
	}
	if len(r.Without) > 0 {
		fmt.Fprintf(&out, "; without %s", strings.Join(r.Without, ", "))
	}
	return out.String()
}
