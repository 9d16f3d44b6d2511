package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExampleShowsEveryKeyWithItsDefault(t *testing.T) {
	data, err := os.ReadFile("../../config.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data, "config.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("the example differs from the defaults (-default +example):\n%s", diff)
	}
	lines := scan(string(data))
	for _, key := range Keys() {
		if lines[key] == 0 {
			t.Errorf("the example does not show %s", key)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().check(source{}); err != nil {
		t.Error(err)
	}
}

func TestLoadNamesFileLineKeyAndRemedy(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "zone = \"a\"\nboostrap_expect = 3\n", []string{"c.toml:2: boostrap_expect is not a key", "did you mean bootstrap_expect?"}},
		{"key in the wrong table", "[api]\nvoters = 3\n", []string{"c.toml:2: api.voters is not a key", "raft.voters"}},
		{"unknown table", "\n[gosip]\nport = 1\n", []string{"c.toml:2: gosip"}},
		{"dotted unknown key", "raft.nonsense = 1\n", []string{"c.toml:1: raft.nonsense is not a key", "config.toml.example"}},
		{"after a multi-line string", "name = \"\"\"\na\"\"\"\n\nfoo = 1\n", []string{"c.toml:4: foo"}},
		{"syntax", "zone = \"a\"\njoin = [\n", []string{"c.toml:"}},
		{"wrong type", "\n\nbootstrap_expect = \"3\"\n", []string{"c.toml:3: bootstrap_expect"}},
		{"text for a switch", "[master]\nrebalance = \"yes\"\n", []string{`c.toml:2: master.rebalance must be true or false, without quotes`}},
		{"number for a list", "\njoin = 3\n", []string{`c.toml:2: join must be a list`}},
		{"bare number for a duration", "[timeouts]\neviction_grace = 3\n", []string{"c.toml:2: timeouts.eviction_grace must be text with a unit"}},
		{"bad duration", "[timeouts]\neviction_grace = \"3 parsecs\"\n", []string{"c.toml:2: timeouts.eviction_grace"}},
		{"without what", "[master]\nwithout = [\"job-controller\", \"jobs\"]\n", []string{`c.toml:2: master.without names "jobs"; the controllers that can be left out are replication-controller,`}},
		{"even voters", "[raft]\nvoters = 4\n", []string{"c.toml:2: raft.voters is 4; use 1, 3, 5"}},
		{"host bits", "[network]\npod_cidr = \"10.244.0.1/15\"\n", []string{"c.toml:2: network.pod_cidr", "write 10.244.0.0/15"}},
		{"overlap", "[network]\nservice_cidr = \"10.245.0.0/16\"\n", []string{"c.toml:2: network.service_cidr", "overlaps"}},
		{"expect without secret", "join = [\"a\"]\nbootstrap_expect = 3\n", []string{"c.toml:2: bootstrap_expect needs cluster_secret_file"}},
		{"short secret", "cluster_secret = \"hunter2\"\n", []string{"c.toml:1: cluster_secret has 7 characters"}},
		{"name", "name = \"Not_A_Name\"\n", []string{"c.toml:1: name is \"Not_A_Name\""}},
		{"join", "join = [\"ok.example:6443\", \"no good\"]\n", []string{"c.toml:1: join has \"no good\""}},
		{"several at once", "zone = \"-\"\n[api]\nport = 0\n", []string{"c.toml:1: zone", "c.toml:3: api.port"}},
		{"mirror", "[runtime.mirrors]\n\"docker.io\" = [\"mirror\"]\n", []string{`c.toml:2: runtime.mirrors."docker.io" has "mirror"`}},
		{"what makes containers", "[runtime]\noci_runtime = \"bin/crun\"\n", []string{`c.toml:2: runtime.oci_runtime is "bin/crun"; write runc, crun, or the absolute path`}},
		{"too few processes", "[runtime]\npod_pids = 3\n", []string{"c.toml:2: runtime.pod_pids is 3; no pod could start with so few"}},
		{"relative directories", "[runtime]\nstatic_pods = \"pods\"\nkubelet_dir = \"kubelet\"\n", []string{"c.toml:2: runtime.static_pods", "c.toml:3: runtime.kubelet_dir"}},
		{"an issuer nobody trusts", "[api.oidc]\nissuer = \"http://id.example.org\"\n", []string{`c.toml:2: api.oidc.issuer is "http://id.example.org"; write its URL, which begins with https://`, `api.oidc.client_id is empty`}},
		{"audit nonsense", "[log.audit]\nmax_size = \"much\"\nkeep = 0\n", []string{`c.toml:2: log.audit.max_size is "much"; write an amount`, `c.toml:3: log.audit.keep is 0`}},
		{"reserved nonsense", "[reserved]\ncpu = \"half\"\nmemory = \"-1Gi\"\n", []string{`c.toml:2: reserved.cpu is "half"; write a quantity`, `c.toml:3: reserved.memory is "-1Gi"`}},
		{"missing token file", "token_file = \"/nonexistent/t\"\n", []string{"c.toml:1: token_file cannot be read"}},
		{"token twice", "token = \"a\"\ntoken_file = \"/nonexistent/t\"\n", []string{"c.toml:2: token_file and token are both set"}},
		{"relative", "data_dir = \"here\"\n", []string{"c.toml:1: data_dir is \"here\"; write an absolute path"}},
		{"backups for nobody", "[backup]\nevery = \"6h\"\n", []string{"c.toml:2: backup.every needs backup.recipients", "age-keygen"}},
		{
			"backups without end", "[backup]\nevery = \"1s\"\nrecipients = [\"me\"]\nkeep = 0\n",
			[]string{"c.toml:2: backup.every", "c.toml:3: backup.recipients has \"me\"; write a public key", "c.toml:4: backup.keep is 0"},
		},
		{"probe", "[gossip]\nprobe_timeout = \"1s\"\n", []string{"c.toml:2: gossip.probe_timeout is 1s; it must be shorter"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.toml")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestLoadReadsSecretsAppliesOverridesAndKeepsDefaults(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := write("secret", " 0123456789abcdef \n")
	path := write("c.toml", `name = "file"
join = ["peer-1", "10.0.0.2:7000", "fe80::1"]
bootstrap_expect = 3
cluster_secret_file = "`+secret+`"
[timeouts]
eviction_grace = "10s"
[runtime.mirrors]
"docker.io" = ["http://127.0.0.1:5000"]
`)
	c, err := Load(path, func(c *Config) { c.Name = "flag" })
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.Join, want.BootstrapExpect = "flag", []string{"peer-1", "10.0.0.2:7000", "fe80::1"}, 3
	want.ClusterSecretFile, want.ClusterSecret = secret, "0123456789abcdef"
	want.Timeouts.EvictionGrace = 10 * time.Second
	want.Runtime.Mirrors = map[string][]string{"docker.io": {"http://127.0.0.1:5000"}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestOverrideErrorsNameTheKeyAlone(t *testing.T) {
	_, err := Load("", func(c *Config) { c.Zone = "!" })
	if err == nil || !strings.HasPrefix(err.Error(), `zone is "!"`) {
		t.Errorf("got %v", err)
	}
}

func TestLoadWithoutNameTakesTheHostName(t *testing.T) {
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	if c.Name != strings.ToLower(host) {
		t.Errorf("name is %q", c.Name)
	}
}

func TestNoStructIsLarge(t *testing.T) {
	walkStructs(reflect.TypeFor[Config](), func(s reflect.Type) {
		if s.NumField() > 12 {
			t.Errorf("%v has %d fields", s, s.NumField())
		}
	})
}

func walkStructs(s reflect.Type, visit func(reflect.Type)) {
	visit(s)
	for i := range s.NumField() {
		if f := s.Field(i).Type; f.Kind() == reflect.Struct {
			walkStructs(f, visit)
		}
	}
}

func FuzzParse(f *testing.F) {
	example, err := os.ReadFile("../../config.toml.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, s := range []string{"", "a.b.c = 1", "[runtime.mirrors]\n\"x\" = ['http://y']", "x = '''\n'''", "[[join]]\n", "[log]\nlevel=3", "\"a.b\"=1\n['c.d']\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "f.toml")
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		if err == nil {
			if err := c.check(source{}); err != nil {
				t.Errorf("accepted an invalid config: %v", err)
			}
		}
	})
}
