// Package internal_test holds the rules on the shape of the whole tree.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which of our packages each package may import directly, as patterns: an exact path, or a prefix ending in
// "/..." that covers the folder and all below it. This table is the documentation of who may know whom.
var allowed = []struct {
	from string
	to   []string
}{
	{"cmd/...", []string{"internal/audit", "internal/peer", "internal/lab", "internal/client", "internal/api", "internal/config", "internal/backup", "node/keeper", "master/scheduler/..."}},
	{"internal/peer", []string{"consensus/...", "gossip/...", "master/...", "node/...", "proxy/...", "internal/api", "internal/client", "internal/config", "internal/pki", "internal/backup", "internal/audit"}},
	{"internal/audit", nil},
	{"internal/backup", []string{"internal/atomicfile"}},
	{"internal/atomicfile", nil},
	{"internal/lab", []string{"internal/api", "node/runtime/pause"}},
	{"internal/client/...", []string{"internal/api", "internal/client/..."}},
	{"internal/api", nil},
	{"internal/api/custom", []string{"internal/api"}},
	{"internal/config", nil},
	{"internal/pki", []string{"internal/atomicfile"}},
	{"internal/fair", nil},
	{"master/registry", []string{"consensus", "consensus/store", "internal/api", "internal/api/custom", "internal/client", "internal/fair"}},
	{"master/api/openapi", nil},
	{"master/api", []string{"master/api/openapi", "master/registry", "master/auth", "master/admission", "internal/api", "internal/client", "internal/audit", "internal/fair"}},
	{"master", []string{"master/scheduler/...", "master/controller/...", "internal/api", "internal/client"}},
	{"master/scheduler/...", []string{"master/scheduler/...", "internal/api", "internal/client"}},
	{"master/controller/...", []string{"master/controller/...", "internal/api", "internal/api/custom", "internal/client"}},
	{"master/admission/...", []string{"master/admission/...", "internal/api", "internal/client", "internal/fair"}},
	{"master/auth/...", []string{"master/auth/...", "internal/api", "internal/client"}},
	{"node/...", []string{"node/...", "internal/api", "internal/client"}},
	{"proxy/...", []string{"proxy/...", "internal/api", "internal/client"}},
	{"consensus", []string{"consensus/..."}},
	{"consensus/store", nil},
	{"gossip/...", []string{"gossip/..."}},
}

// unchecked are programs and tests, which may import anything.
var unchecked = []string{
	"examples/...", "internal/crash", "internal/hollow", "internal/e2e/...", "internal/testcluster/...", "internal/client/clienttest", "internal/api/custom/customtest", "master/registry/registrytest",
}

func matches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	}
	return pattern == path
}

func TestImportTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "shoal/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		from, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		from = strings.TrimPrefix(from, "shoal/")
		if from == "internal" || slices.ContainsFunc(unchecked, func(p string) bool { return matches(p, from) }) {
			continue
		}
		i := slices.IndexFunc(allowed, func(row struct {
			from string
			to   []string
		},
		) bool {
			return matches(row.from, from)
		})
		if i < 0 {
			t.Errorf("%s has no row in the import table", from)
			continue
		}
		for imported := range strings.SplitSeq(imports, ",") {
			to, ours := strings.CutPrefix(imported, "shoal/")
			if ours && !slices.ContainsFunc(allowed[i].to, func(p string) bool { return matches(p, to) }) {
				t.Errorf("%s must not import %s: ask for an interface instead, or change the table with a reason", from, to)
			}
		}
	}
}
