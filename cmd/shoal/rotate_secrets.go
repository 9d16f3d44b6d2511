package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"shoal/internal/api"
)

type rotateSecretsCmd struct {
	Status bool   `help:"Change nothing: only say how Secrets are kept."`
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
}

func (c rotateSecretsCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	method := "POST"
	if c.Status {
		method = "GET"
	}
	var s api.Sealing
	if err := conn.json(ctx, request{method: method, path: "/shoal/v1/rotations/secrets"}, &s); err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(s)
	}
	tellSealing(std.out, s, c.Status)
	return nil
}

func tellSealing(w io.Writer, s api.Sealing, status bool) {
	switch {
	case s.Key == "":
		fmt.Fprintf(w, "%d Secrets are kept in clear. To have them sealed: shoal rotate secrets\n", s.Secrets)
		return
	case status:
		fmt.Fprintf(w, "%d Secrets are sealed with key %s", s.Secrets-s.Others, s.Key)
	default:
		fmt.Fprintf(w, "Secrets have the new key %s; %d were sealed anew", s.Key, s.Anew)
	}
	fmt.Fprintf(w, ". It is with: %s.\n", strings.Join(s.Holders, ", "))
	if s.Others > 0 {
		fmt.Fprintf(w, "%d are in clear or under an earlier key still.\n", s.Others)
	}
}
