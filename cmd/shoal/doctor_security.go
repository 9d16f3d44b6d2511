package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"shoal/internal/api"
	"shoal/internal/audit"
	"shoal/internal/client"
)

// finding is one item of the checklist.
type finding struct {
	// Item is the number in the CIS Kubernetes Benchmark of what it corresponds to, or empty.
	Item    string `json:"item,omitempty"`
	What    string `json:"what"`
	Verdict string `json:"verdict"` // ok; look: somebody should; bad
	How     string `json:"how"`     // it was checked
	// Found is what is not as it should be.
	Found []string `json:"found,omitempty"`
}

const (
	verdictOK   = "ok"
	verdictLook = "look"
	verdictBad  = "bad"
)

// security prints the checklist, and fails when something is bad.
func security(ctx context.Context, g *Globals, std streams, output string) error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	facts, err := c.securityFacts(ctx)
	if err != nil {
		return err
	}
	list, err := c.peers(ctx)
	if err != nil {
		return err
	}
	var urls []string
	for _, p := range list.Peers {
		urls = append(urls, p.API)
	}
	all := append(checkFiles(g.DataDir), c.checkStrangers(ctx, urls)...)
	all = append(all, judge(facts)...)
	if output == "json" {
		if err := json.NewEncoder(std.out).Encode(all); err != nil {
			return err
		}
	} else {
		printFindings(std.out, all)
	}
	for _, f := range all {
		if f.Verdict == verdictBad {
			return silentError{exitFailed}
		}
	}
	return nil
}

func printFindings(out io.Writer, all []finding) {
	const most = 8
	for _, f := range all {
		fmt.Fprintf(out, "%-4s  %-7s %s\n", f.Verdict, orDash(f.Item), f.What)
		fmt.Fprintf(out, "              checked: %s\n", f.How)
		for i, text := range f.Found {
			if i == most {
				fmt.Fprintf(out, "              - and %d more (-o json shows all)\n", len(f.Found)-most)
				break
			}
			fmt.Fprintf(out, "              - %s\n", printable(text))
		}
	}
}

// checkFiles looks at the files of this machine's peer.
func checkFiles(dir string) []finding {
	if _, err := os.Stat(filepath.Join(dir, "peer.json")); err != nil {
		return []finding{{Item: "1.1", What: "files of the peer", Verdict: verdictLook, How: "not: " + dir + " has no peer (--data-dir DIR; each machine has its own)"}}
	}
	keys := finding{Item: "1.1.19", What: "keys and state are root's alone", Verdict: verdictOK, How: "mode and owner of " + dir + " and all that is in pki, raft and audit"}
	look := func(path string, info fs.FileInfo) {
		if info.Mode().Perm()&0o077 != 0 && info.Mode()&fs.ModeSymlink == 0 {
			keys.Verdict = verdictBad
			keys.Found = append(keys.Found, fmt.Sprintf("%s has mode %#o: chmod go= %[1]s", path, info.Mode().Perm()))
		}
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		for _, part := range []string{"pki", "raft", "audit", "peer.json"} { // what is in a closed directory is closed
			_ = filepath.WalkDir(filepath.Join(dir, part), func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return nil
				}
				info, err := d.Info()
				if err != nil {
					return nil
				}
				look(path, info)
				if d.IsDir() && info.Mode().Perm()&0o077 == 0 {
					return filepath.SkipDir
				}
				return nil
			})
		}
	}
	log := finding{Item: "1.2.16", What: "requests are noted, and the notes are whole", Verdict: verdictOK, How: "every line of the audit log by its hash"}
	summary, err := audit.Verify(filepath.Join(dir, "audit"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Verdict, log.Found = verdictLook, []string{"there is no audit log: log.audit.enabled in the peer's configuration"}
	case err != nil:
		log.Verdict, log.Found = verdictBad, []string{err.Error()}
	default:
		log.How += fmt.Sprintf(" (%d to %d)", summary.First, summary.Last)
	}
	return []finding{keys, log}
}

// checkStrangers asks every peer what somebody without credentials gets.
func (c *conn) checkStrangers(ctx context.Context, urls []string) []finding {
	anonymous := finding{Item: "1.2.1", What: "strangers get nothing", Verdict: verdictOK, How: "asked every peer for all Secrets without credentials"}
	plain := finding{Item: "1.2.18", What: "nothing is said without TLS", Verdict: verdictOK, How: "asked every peer in plain HTTP"}
	old := finding{Item: "1.2.29", What: "only TLS 1.2 and later is spoken", Verdict: verdictOK, How: "offered every peer TLS 1.1"}
	conf, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: c.rest.CAData, CAFile: c.rest.CAFile}})
	if err != nil || conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	ask := func(url string) (int, error) {
		hc := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: conf.Clone(), DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return 0, err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	for _, u := range urls {
		at, err := url.Parse(u)
		if err != nil || at.Scheme != "https" {
			continue
		}
		switch code, err := ask(u + "/api/v1/secrets"); {
		case err != nil:
			anonymous.Found = append(anonymous.Found, fmt.Sprintf("%s was not asked: %v", at.Host, err))
			anonymous.Verdict = verdictLook
		case code != http.StatusForbidden && code != http.StatusUnauthorized:
			anonymous.Found = append(anonymous.Found, fmt.Sprintf("%s answers %d", at.Host, code))
			anonymous.Verdict = verdictBad
		}
		if code, err := ask("http://" + at.Host + "/api/v1/secrets"); err == nil && code < 400 {
			plain.Found = append(plain.Found, fmt.Sprintf("%s answers %d", at.Host, code))
			plain.Verdict = verdictBad
		}
		worst := conf.Clone()
		worst.MinVersion, worst.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if raw, err := (&tls.Dialer{Config: worst}).DialContext(ctx, "tcp", at.Host); err == nil {
			_ = raw.Close()
			old.Found = append(old.Found, at.Host+" speaks it")
			old.Verdict = verdictBad
		}
	}
	return []finding{anonymous, plain, old}
}

// facts are what of the cluster's objects is judged.
type facts struct {
	namespaces   []*corev1.Namespace
	pods         []*corev1.Pod
	policies     []*networkingv1.NetworkPolicy
	clusterRoles []*rbacv1.ClusterRole
	roles        []*rbacv1.Role
	bindings     []binding
	users        []userLine
	tokens       []api.Token
	secrets      []api.Holder // who may read all Secrets
	sealing      api.Sealing
	rotations    []api.Rotation
}

// binding is a RoleBinding, or of no namespace a ClusterRoleBinding.
type binding struct {
	namespace, name string
	role            rbacv1.RoleRef
	subjects        []rbacv1.Subject
}

func (c *conn) securityFacts(ctx context.Context) (f *facts, err error) {
	f = &facts{}
	var all []*rbacv1.ClusterRoleBinding
	var some []*rbacv1.RoleBinding
	for _, read := range []func() error{
		func() error { return listInto(ctx, c, api.Namespaces, &f.namespaces) },
		func() error { return listInto(ctx, c, api.Pods, &f.pods) },
		func() error { return listInto(ctx, c, api.NetworkPolicies, &f.policies) },
		func() error { return listInto(ctx, c, api.ClusterRoles, &f.clusterRoles) },
		func() error { return listInto(ctx, c, api.Roles, &f.roles) },
		func() error { return listInto(ctx, c, api.ClusterRoleBindings, &all) },
		func() error { return listInto(ctx, c, api.RoleBindings, &some) },
		func() (err error) {
			f.users, err = c.users(ctx)
			return err
		},
		func() error { return c.json(ctx, request{method: "GET", path: "/shoal/v1/tokens"}, &f.tokens) },
		func() (err error) {
			f.rotations, err = c.rotations(ctx)
			return err
		},
		func() error {
			return c.json(ctx, request{method: "GET", path: "/shoal/v1/rotations/secrets"}, &f.sealing)
		},
		func() error {
			return c.json(ctx, request{method: "GET", path: "/shoal/v1/who-can", query: url.Values{"verb": {"list"}, "resource": {"secrets"}}}, &f.secrets)
		},
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	for _, b := range all {
		f.bindings = append(f.bindings, binding{"", b.Name, b.RoleRef, b.Subjects})
	}
	for _, b := range some {
		f.bindings = append(f.bindings, binding{b.Namespace, b.Name, b.RoleRef, b.Subjects})
	}
	return f, nil
}

func listInto[T api.Object](ctx context.Context, c *conn, k *api.Kind, into *[]T) error {
	l, err := c.api.List(ctx, k, client.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", k.Resource, err)
	}
	for _, o := range l.Items {
		if o, ok := o.(T); ok {
			*into = append(*into, o)
		}
	}
	return nil
}

// own reports whether a namespace is the cluster's.
func own(namespace string) bool { return strings.HasPrefix(namespace, "kube-") }
