package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"shoal/internal/api"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print it: with it, a machine joins."`
	List   tokenListCmd   `cmd:"" help:"List tokens, without their secrets."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make a token useless."`
}

type tokenCreateCmd struct {
	Uses int           `default:"1" help:"How many machines may join with it."`
	TTL  time.Duration `default:"24h" help:"How long it is good for."`
}

func (c tokenCreateCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.Uses < 1 || c.Uses > 1000 {
		return usagef("--uses must be 1 to 1000, not %d", c.Uses)
	}
	if c.TTL < time.Second {
		return usagef("--ttl must be at least 1s, not %v", c.TTL)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	body, err := json.Marshal(api.TokenRequest{Uses: c.Uses, TTLSeconds: int64(c.TTL.Seconds())})
	if err != nil {
		return err
	}
	var made api.Token
	if err := conn.json(ctx, request{method: "POST", path: "/shoal/v1/tokens", ctype: "application/json", body: body}, &made); err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, made.Token)
	return err
}

type tokenListCmd struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

func (c tokenListCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var list []api.Token
	if err := conn.json(ctx, request{method: "GET", path: "/shoal/v1/tokens"}, &list); err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(list)
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tUSES LEFT\tEXPIRES IN")
	for _, t := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\n", t.ID, t.UsesLeft, duration.HumanDuration(time.Until(t.Expires)))
	}
	return w.Flush()
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"The token's ID: what stands before its first dot."`
}

func (c tokenRevokeCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var out json.RawMessage
	if err := conn.json(ctx, request{method: "DELETE", path: "/shoal/v1/tokens/" + c.ID}, &out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "token %s revoked\n", c.ID)
	return err
}
