package peer

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/audit"
)

var update = flag.Bool("update", false, "write testdata/matrix.txt anew; then read what has changed")

// Where something is asked.
const (
	inMine     = "mine"
	inOther    = "other"
	everywhere = "everywhere" // objects of no namespace, and those of all namespaces at once
	byPath     = "paths"
	deeds      = "deeds" // what more than method and path decides about
)

// cell is one question: may it be done?
type cell struct {
	scope, verb, what string

	method, path, kind, body string // kind of content
	headers                  []string
}

// verbs in the order in which they are shown.
var allVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

// cellsOf are the questions about a resource that discovery shows. None of them changes anything if it is let through: bodies are not JSON, objects
// are not there, and selectors select nothing.
func cellsOf(root, what string, r *metav1.APIResource) (all []cell) {
	resource, sub, isSub := strings.Cut(r.Name, "/")
	add := func(scope, prefix, name string, verbs ...string) {
		for _, verb := range verbs {
			c := cell{scope: scope, verb: verb, what: what, path: root + prefix + "/" + resource}
			if isSub {
				c.path += "/" + name + "/" + sub
			} else if slices.Contains([]string{"get", "update", "patch", "delete"}, verb) {
				c.path += "/" + name
			}
			switch verb {
			case "get":
				c.method, c.path = "GET", c.path+"?resourceVersion=0"
			case "list":
				c.method, c.path = "GET", c.path+"?resourceVersion=0&limit=1"
			case "watch":
				c.method, c.path = "GET", c.path+"?watch=1&resourceVersion=0&timeoutSeconds=1"
			case "create":
				c.method, c.kind, c.body = "POST", "application/json", "{"
			case "update":
				c.method, c.kind, c.body = "PUT", "application/json", "{"
			case "patch":
				c.method, c.kind, c.body = "PATCH", "application/merge-patch+json", "{"
			case "delete":
				c.method, c.path = "DELETE", c.path+"?dryRun=All"
			case "deletecollection":
				c.method, c.path = "DELETE", c.path+"?dryRun=All&labelSelector=nothing"
			}
			all = append(all, c)
		}
	}
	ofOne := []string{"get", "create", "update", "patch", "delete"}
	switch {
	case r.Name == "namespaces": // whose objects belong to themselves
		add(inMine, "", inMine, "get", "update", "patch", "delete")
		add(inOther, "", inOther, "get", "update", "patch", "delete")
		add(everywhere, "", "", "list", "watch", "create", "deletecollection")
	case resource == "namespaces":
		add(inMine, "", inMine, ofOne...)
		add(inOther, "", inOther, ofOne...)
	case r.Namespaced && isSub:
		add(inMine, "/namespaces/mine", "nothing", ofOne...)
		add(inOther, "/namespaces/other", "nothing", ofOne...)
	case r.Namespaced:
		add(inMine, "/namespaces/mine", "nothing", allVerbs...)
		add(inOther, "/namespaces/other", "nothing", allVerbs...)
		add(everywhere, "", "", "list", "watch", "create", "deletecollection")
	case isSub:
		add(everywhere, "", "nothing", ofOne...)
	default:
		add(everywhere, "", "nothing", allVerbs...)
	}
	return all
}

// pathCells are the questions about what is no resource.
func pathCells() (all []cell) {
	for _, path := range []string{
		"/", "/api", "/api/v1", "/apis", "/apis/apps/v1", "/openapi/v2", "/openapi/v3", "/version", "/healthz", "/healthz/ping", "/livez", "/livez/ping", "/readyz", "/readyz/ping",
		"/metrics", "/.well-known/openid-configuration", "/openid/v1/jwks", "/stats/summary", "/logs/", "/debug/pprof/",
		"/shoal/v1/peers", "/shoal/v1/tokens", "/shoal/v1/backup", "/shoal/v1/pprof/cmdline", "/shoal/v1/peers/nobody/images", "/shoal/v1/history?version=v1&resource=secrets&namespace=mine&name=used",
		"/shoal/v1/who-can?verb=get&resource=pods", "/shoal/v1/rotations/gossip", "/shoal/v1/rotations/ca", "/shoal/v1/rotations/secrets", "/shoal/v1/nothing",
	} {
		what, _, _ := strings.Cut(path, "?")
		all = append(all, cell{scope: byPath, verb: "get", what: what, method: "GET", path: path}, cell{scope: byPath, verb: "post", what: what, method: "POST", path: path, kind: "application/json", body: "{"})
	}
	return append(all, cell{scope: byPath, verb: "post", what: "/shoal/v1/restore", method: "POST", path: "/shoal/v1/restore", body: "x"},
		cell{scope: byPath, verb: "delete", what: "/shoal/v1/peers/nobody", method: "DELETE", path: "/shoal/v1/peers/nobody"},
		cell{scope: byPath, verb: "post", what: "/shoal/v1/peers/nobody/images/pull", method: "POST", path: "/shoal/v1/peers/nobody/images/pull", body: "{"})
}

// decider asks one peer.
type decider struct {
	t     *testing.T
	p     *Peer
	http  map[string]*http.Client // by subject
	table []cell
}

// ask returns the code of the answer to a question.
func (d *decider) ask(ctx context.Context, s *subject, c *cell) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // watches, and what is long
	r, err := http.NewRequestWithContext(ctx, c.method, "https://"+d.p.address()+c.path, strings.NewReader(c.body))
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(c.headers); i += 2 {
		r.Header.Add(c.headers[i], c.headers[i+1])
	}
	if c.kind != "" {
		r.Header.Set("Content-Type", c.kind)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := d.http[s.name].Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	return resp.StatusCode, nil
}

// decisions returns for every cell whether a subject may.
func (d *decider) decisions(s *subject) []bool {
	d.t.Helper()
	out := make([]bool, len(d.table))
	g, ctx := errgroup.WithContext(d.t.Context())
	g.SetLimit(8)
	for i := range d.table {
		g.Go(func() error {
			c := &d.table[i]
			code, err := d.ask(ctx, s, c)
			if err != nil || code == http.StatusServiceUnavailable || code == http.StatusTemporaryRedirect {
				return fmt.Errorf("%s asks %s to %s %s (%s): %d, %v", s.name, d.p.cfg.Name, c.verb, c.what, c.path, code, err)
			}
			out[i] = code != http.StatusUnauthorized && code != http.StatusForbidden
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		d.t.Fatal(err)
	}
	return out
}

// TestWhoMayDoWhat asks the Master and a follower, as everybody there is, for every verb of every resource that discovery shows, all paths, and what
// more than those decides about. What is allowed stands in testdata/matrix.txt, which people have compared with Kubernetes' roles. A resource that is new
// changes the file. Whoever is refused is in the audit log, each time.
func TestWhoMayDoWhat(t *testing.T) {
	peers := startPeers(t, 2)
	w := newMatrixWorld(t, peers)
	table, resources := w.table()
	everyKindIsAsked(t, resources)
	var got bytes.Buffer
	head(&got, table)
	cells, refused := 0, map[string]map[string]int{} // by peer and user
	for _, p := range peers {
		refused[p.cfg.Name] = map[string]int{}
	}
	for _, s := range w.subjects {
		var first []bool
		for _, p := range peers {
			d := &decider{t, p, w.clients(p), table}
			may := d.decisions(s)
			for i, ok := range may {
				if !ok {
					refused[p.cfg.Name][s.user]++
				}
				if first != nil && ok != first[i] {
					t.Errorf("%s: %s %s %s: the Master says %v, the follower %v", s.name, table[i].verb, table[i].what, table[i].scope, first[i], ok)
				}
			}
			if first == nil {
				first = may
			}
		}
		cells += len(first)
		show(&got, s.name, table, first)
	}
	t.Logf("FIGURES %d cells: %d questions by %d subjects, each asked at both peers", cells, len(table), len(w.subjects))
	compare(t, filepath.Join("testdata", "matrix.txt"), got.Bytes())
	for _, p := range peers {
		everyRefusalIsNoted(t, p, refused[p.cfg.Name])
	}
}

// everyKindIsAsked looks whether discovery hides something of the kinds table.
func everyKindIsAsked(t *testing.T, resources map[string]bool) {
	t.Helper()
	for _, k := range api.Kinds() {
		names := []string{k.Resource}
		for _, s := range k.Subresources {
			names = append(names, k.Resource+"/"+s.Name)
		}
		for _, name := range names {
			if !resources[k.GroupVersion().String()+"/"+name] {
				t.Errorf("%s %s is in the kinds table, and discovery does not show it", k.GroupVersion(), name)
			}
		}
	}
}

var unnoted = regexp.MustCompile(`before it (\d+) refused requests of strangers were not noted`)

// everyRefusalIsNoted compares the audit log of a peer with the answers that it gave. Of strangers only so many are noted, with how many were not before.
func everyRefusalIsNoted(t *testing.T, p *Peer, refused map[string]int) {
	t.Helper()
	p.audit.Close()
	noted := map[string]int{}
	if _, err := audit.Read(filepath.Join(p.dir.path, "audit"), func(r audit.Record) {
		if r.Decision != audit.Forbid || r.Via != "" {
			return
		}
		noted[r.User]++
		if m := unnoted.FindStringSubmatch(r.Note); m != nil {
			n, _ := strconv.Atoi(m[1])
			noted[r.User] += n
		}
	}); err != nil {
		t.Error(err)
	}
	for user, n := range refused {
		switch {
		case user == "system:anonymous" || user == "":
			continue // below, together
		case noted[user] != n:
			t.Errorf("%s refused %d requests of %q, %d are in its audit log", p.cfg.Name, n, user, noted[user])
		}
	}
	strangers := refused["system:anonymous"] + refused[""]
	if n := noted["system:anonymous"] + noted[""]; n == 0 || n > strangers {
		t.Errorf("%s refused %d requests of strangers, %d are in its audit log", p.cfg.Name, strangers, n)
	}
}
