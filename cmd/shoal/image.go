package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"shoal/internal/api"
)

type imageCmd struct {
	Import imageImportCmd `cmd:"" help:"Load image archives (docker or OCI) into peers."`
	Pull   imagePullCmd   `cmd:"" help:"Have peers pull an image before pods need it; one fetches it, the others take it from there."`
	List   imageListCmd   `cmd:"" help:"List the images that peers hold."`
}

// onPeers is which peers an image verb is about.
type onPeers struct {
	On []string `placeholder:"PEER" help:"Only these peers; all by default."`
}

func (o onPeers) names(ctx context.Context, conn *conn) ([]string, error) {
	if len(o.On) > 0 {
		return o.On, nil
	}
	list, err := conn.peers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range list.Peers {
		if p.State == api.Alive {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

type imageImportCmd struct {
	onPeers
	Files []string `arg:"" help:"Archives."`
}

func (c imageImportCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	peers, err := c.names(ctx, conn)
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range c.Files {
		for _, peer := range peers {
			names, err := conn.importImage(ctx, peer, file)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s on %s: %w", file, peer, err))
				continue
			}
			fmt.Fprintf(std.out, "%s: %s\n", peer, strings.Join(names, ", "))
		}
	}
	return errors.Join(errs...)
}

func (c *conn) importImage(ctx context.Context, peer, file string) ([]string, error) {
	archive, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var names []string
	err = c.json(ctx, request{method: "POST", path: "/shoal/v1/peers/" + peer + "/images", ctype: "application/x-tar", body: archive}, &names)
	return names, err
}

type imagePullCmd struct {
	onPeers
	Username string `short:"u" help:"User of the registry; the password is asked for, or read from standard input."`
	Image    string `arg:"" help:"The image, for example registry.example/team/app:v1."`
}

func (c imagePullCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	peers, err := c.names(ctx, conn)
	if err != nil {
		return err
	}
	pull := api.PullRequest{Image: c.Image, Username: c.Username}
	if c.Username != "" {
		if pull.Password, err = c.password(std); err != nil {
			return err
		}
	}
	body, err := json.Marshal(pull)
	if err != nil {
		return err
	}
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		errs []error
	)
	for _, peer := range peers {
		all.Go(func() {
			begun := time.Now()
			var got api.PeerImage
			err := conn.json(ctx, request{method: "POST", path: "/shoal/v1/peers/" + peer + "/images/pull", ctype: "application/json", body: body}, &got)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s on %s: %w", c.Image, peer, err))
				return
			}
			fmt.Fprintf(std.out, "%s: %s (%.1f MB) after %v\n", peer, c.Image, float64(got.Size)/1e6, time.Since(begun).Round(time.Millisecond))
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// password asks for it, or reads it where there is no terminal.
func (c imagePullCmd) password(std streams) (string, error) {
	if in, ok := std.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return ask(in, std, "Password of "+c.Username+": ")
	}
	b, err := io.ReadAll(io.LimitReader(std.in, 64<<10))
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", usagef("give the password of %s on standard input: shoal image pull -u %[1]s %s < FILE", c.Username, c.Image)
	}
	return password, nil
}

type imageListCmd struct {
	onPeers
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

func (c imageListCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	peers, err := c.names(ctx, conn)
	if err != nil {
		return err
	}
	held := map[string][]api.PeerImage{}
	for _, peer := range peers {
		var list []api.PeerImage
		if err := conn.json(ctx, request{method: "GET", path: "/shoal/v1/peers/" + peer + "/images"}, &list); err != nil {
			return fmt.Errorf("images of %s: %w", peer, err)
		}
		held[peer] = list
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(held)
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "PEER\tIMAGE\tID\tSIZE")
	for _, peer := range peers {
		for _, img := range held[peer] {
			id := strings.TrimPrefix(img.ID, "sha256:")
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1f MB\n", peer, img.Name, id[:min(12, len(id))], float64(img.Size)/1e6)
		}
	}
	return w.Flush()
}
