package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"shoal/internal/api"
	"shoal/internal/client"
)

type userCmd struct {
	Create userCreateCmd `cmd:"" help:"Give a user a token, and print a kubeconfig with it. What the user may do, Roles and tenants say."`
	List   userListCmd   `cmd:"" help:"List users' tokens, without their secrets."`
	Revoke userRevokeCmd `cmd:"" help:"Make all tokens of a user useless, or one."`
}

// userTokenLife is how long a user's token is good for when nobody says: 90 days.
const userTokenLife = 90 * 24 * time.Hour

type userCreateCmd struct {
	Name   string        `arg:"" help:"The user's name, as in bindings: shoal tenant create TEAM --user NAME."`
	Groups []string      `name:"group" placeholder:"NAME" help:"A group that the user is in. May be repeated."`
	TTL    time.Duration `default:"2160h" help:"How long the token is good for; 0 for ever."`
}

// Run prints a kubeconfig for the user, for the namespace at hand.
func (c userCreateCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.TTL < 0 {
		return usagef("--ttl must not be negative: %v", c.TTL)
	}
	var end time.Time
	if c.TTL > 0 {
		end = time.Now().Add(c.TTL)
	}
	token, secret, err := api.NewUserToken(c.Name, c.Groups, end)
	if err != nil {
		return usagef("%v", err)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	if _, err := conn.api.Create(ctx, api.Secrets, secret, client.CreateOptions{}); err != nil {
		return err
	}
	return conn.printKubeconfig(ctx, std, c.Name, g.Namespace, &clientcmdapi.AuthInfo{Token: token})
}

type userListCmd struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// userLine is one token.
type userLine struct {
	ID      string     `json:"id"`
	User    string     `json:"user"`
	Groups  []string   `json:"groups,omitempty"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (c userListCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	lines, err := conn.users(ctx)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(lines)
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "USER\tGROUPS\tTOKEN\tAGE\tEXPIRES IN")
	for _, l := range lines {
		left := "never"
		switch {
		case l.Expires != nil && time.Now().After(*l.Expires):
			left = "expired"
		case l.Expires != nil:
			left = duration.HumanDuration(time.Until(*l.Expires))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.User, orDash(strings.Join(l.Groups, ",")), l.ID, duration.HumanDuration(time.Since(l.Created)), left)
	}
	return w.Flush()
}

// users returns all tokens, by user and age.
func (c *conn) users(ctx context.Context) ([]userLine, error) {
	l, err := c.api.List(ctx, api.Secrets, client.ListOptions{Namespace: metav1.NamespaceSystem, Fields: fields.OneTermEqualSelector("type", string(api.UserTokenType))})
	if err != nil {
		return nil, err
	}
	lines := []userLine{}
	for _, o := range l.Items {
		s, ok := o.(*corev1.Secret)
		if !ok {
			continue
		}
		t, err := api.UserTokenOf(s)
		if err != nil {
			continue // nobody gets in with it
		}
		line := userLine{ID: t.ID, User: t.User, Groups: t.Groups, Created: s.CreationTimestamp.Time}
		if !t.Expires.IsZero() {
			line.Expires = &t.Expires
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b userLine) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return lines, nil
}

type userRevokeCmd struct {
	Name string `arg:"" help:"The user's name."`
	ID   string `name:"token" placeholder:"ID" help:"Only this token of the user: shoal user list shows them."`
}

func (c userRevokeCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	lines, err := conn.users(ctx)
	if err != nil {
		return err
	}
	found := 0
	for _, l := range lines {
		if l.User != c.Name || c.ID != "" && l.ID != c.ID {
			continue
		}
		found++
		key := client.Key{Namespace: metav1.NamespaceSystem, Name: "user-" + l.ID}
		if _, err := conn.api.Delete(ctx, api.Secrets, key, client.DeleteOptions{}); err != nil {
			return fmt.Errorf("token %s: %w", l.ID, err)
		}
	}
	if found == 0 {
		return fmt.Errorf("%s has no such token: shoal user list", c.Name)
	}
	fmt.Fprintf(std.out, "%d tokens of %s revoked\n", found, c.Name)
	return nil
}
