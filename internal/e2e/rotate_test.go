//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"shoal/internal/api"
	"shoal/internal/lab"
)

// TestKeysRotateUnderLoad gives a cluster a new gossip key and a new CA, while an administrator, a user and an account write and read at every peer on
// connections that they keep and on new ones. None of their requests fails, nobody is taken for dead, no container is touched; and in the end what the old CA
// signed is good for nothing.
func TestKeysRotateUnderLoad(t *testing.T) {
	c := startLab(t, 3)
	apply(t, web(3))
	running(t, c.api, "web", 3, 60*time.Second)
	var ids []string
	for _, name := range c.names {
		ids = append(ids, containers(t, c, name)...)
	}
	since := everyoneSince(t)
	apply(t, rotators)
	old := credentials(t, c)
	load := startLoad(t, old)

	began := time.Now()
	t.Log(shoal(t, "rotate", "gossip"))
	t.Logf("FIGURES gossip's key is rotated in %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	t.Log(shoal(t, "rotate", "ca", "--overlap", "1h"))
	t.Logf("FIGURES the new CA is in use after %v", time.Since(began).Round(time.Millisecond))
	within(t, 10*time.Second, "every namespace has both CAs", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "get", "configmap", api.RootCAName, "-o", "json")
		if n := strings.Count(out, "BEGIN CERTIFICATE"); err != nil || n != 2 {
			return fmt.Errorf("%d certificates, %v", n, err)
		}
		return nil
	})
	fresh := credentials(t, c)
	for who, cfg := range fresh {
		if n := bytes.Count(cfg.CAData, []byte("BEGIN CERTIFICATE")); n != 2 {
			t.Errorf("%s is told of %d CAs", who, n)
		}
	}
	newer := startLoad(t, fresh)
	<-time.After(5 * time.Second) // of the overlap
	load.end(t)
	lasting := clientset(t, old["admin at "+c.names[0]], false)
	if _, err := lasting.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{Limit: 1}); err != nil {
		t.Errorf("in the overlap the old administrator: %v", err)
	}

	began = time.Now()
	t.Log(shoal(t, "rotate", "ca", "--finish"))
	t.Logf("FIGURES the old CA is forgotten after %v", time.Since(began).Round(time.Millisecond))
	<-time.After(3 * time.Second) // of the life after
	newer.end(t)
	if _, err := lasting.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{Limit: 1}); err == nil {
		t.Error("the old administrator is heard on a connection of before")
	}
	for who, cfg := range old {
		trusting := rest.CopyConfig(cfg)
		trusting.CAData = fresh[who].CAData
		if _, err := clientset(t, trusting, true).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{Limit: 1}); (err == nil) != strings.HasPrefix(who, "user") {
			t.Errorf("in the end %s, with what it had: %v", who, err)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(shoal(t, "rotate", "status")), "\n") {
		if !strings.Contains(line, "rotated") {
			t.Error(line)
		}
	}
	if now := everyoneSince(t); now != since {
		t.Errorf("the peers were as they are since %s, and now since %s", since, now)
	}
	c.api = clientFor(t, c.names...)
	var after []string
	for _, name := range c.names {
		after = append(after, containers(t, c, name)...)
	}
	if !slices.Equal(ids, after) {
		t.Errorf("containers changed:\n%s\n%s", strings.Join(ids, "\n"), strings.Join(after, "\n"))
	}
}

// TestTheMasterDiesInARotation kills the Master as soon as a rotation has begun: the next one goes on.
func TestTheMasterDiesInARotation(t *testing.T) {
	c := startLab(t, 3)
	for _, what := range [][]string{{"gossip"}, {"ca", "--overlap", "15s"}} {
		dead := master(t)
		at := c.others(dead)[0]
		told := make(chan error, 1)
		go func() {
			_, err := tryShoal(t.Context(), append([]string{"--peer", at, "rotate"}, what...)...)
			told <- err
		}()
		within(t, 20*time.Second, "it has begun", func(ctx context.Context) error {
			r, err := rotationAt(ctx, at, what[0])
			if err == nil && r.ID == "" {
				err = fmt.Errorf("%+v", r)
			}
			return err
		})
		shoal(t, "lab", "kill", "--process", dead)
		within(t, 30*time.Second, "it goes on without its Master", func(ctx context.Context) error {
			_, err := rotationAt(ctx, at, what[0])
			return err
		})
		shoal(t, "lab", "start", dead)
		within(t, 60*time.Second, "it is done", func(ctx context.Context) error {
			r, err := rotationAt(ctx, at, what[0])
			if err == nil && r.Phase != api.RotationDone {
				err = fmt.Errorf("%+v", r)
			}
			return err
		})
		if err := <-told; err != nil {
			t.Errorf("who began it is told: %v", err)
		}
		for _, name := range c.names {
			shoal(t, "--peer", name, "create", "namespace", fmt.Sprintf("%s-through-%s", what[0], name))
		}
	}
}

// TestWhoSleptThroughARotation: the cluster goes on without a machine that is off, and has forgotten the keys that it knows when it is on again. Gossip's it
// gets by itself; about the CA it says what to do.
func TestWhoSleptThroughARotation(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	one, three := all["one"], all["three"]
	for _, m := range all {
		m.write("/etc/shoal/config.toml", identicalFile)
		m.up()
	}
	id := together(t, all)
	three.powerOff()
	got := one.run("timeout", "15", "shoal", "rotate", "gossip") // which does not stop it
	if !strings.Contains(got.out, "install: 2 of 3 machines; waiting for three (it is away") {
		t.Errorf("%+v", got)
	}
	t.Log(one.shoal("rotate", "gossip", "--without", "three"))
	three.powerOn()
	one.net.tellHosts()
	three.up().says("gossip's keys changed", 60*time.Second)
	if together(t, all) != id {
		t.Error("another cluster")
	}

	three.powerOff()
	t.Log(one.shoal("rotate", "ca", "--overlap", "1s", "--without", "three"))
	t.Log(one.shoal("rotate", "ca", "--finish"))
	three.powerOn()
	one.net.tellHosts()
	three.up().says("shoal recover --rejoin there, and a start with a token", 60*time.Second)
	three.daemon.stop()
	three.shoal("recover", "--rejoin")
	three.up("--token", strings.TrimSpace(one.shoal("token", "create")))
	if together(t, all) != id {
		t.Error("another cluster")
	}
}

// TestAnEarlierBuildInTheOverlap starts a peer with an earlier build, which knows of one CA, while there are two: it is a peer like the others until the
// overlap ends.
func TestAnEarlierBuildInTheOverlap(t *testing.T) {
	before := filepath.Join(repo(), "build/before/shoal")
	c := startLabOf(t, before, 3) // whose configuration it knows
	admin := filepath.Join(t.TempDir(), "admin")
	b, err := os.ReadFile(lab.Kubeconfig())
	must(t, err)
	must(t, os.WriteFile(admin, b, 0o600))
	start := func(program, name string) {
		t.Helper()
		shoal(t, "lab", "stop", name)
		if out, err := tryRun(t.Context(), program, "lab", "start", name); err != nil {
			t.Fatalf("start %s: %v %s", name, err, out)
		}
		shoal(t, "wait", "node", name, "--for", "condition=Ready", "--timeout", "60s")
		c.allVote(t)
		for _, through := range c.names { // with a certificate of the old CA: the earlier build does not know those of the new
			at := clientset(t, load(t, admin, through), true).CoreV1().ConfigMaps("default")
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: through + "-"}}
			if _, err := at.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
				t.Errorf("%s runs %s, through %s: %v", name, program, through, err)
			}
		}
	}
	for _, name := range c.names {
		start(binary(), name)
	}
	shoal(t, "rotate", "ca", "--overlap", "1h")
	name := c.others(master(t))[0]
	start(before, name)
	if r, err := rotationAt(t.Context(), c.others(name)[0], "ca"); err != nil || r.Phase != api.RotationOverlap {
		t.Errorf("%+v %v", r, err)
	}
	start(binary(), name)
	t.Log(shoal(t, "rotate", "ca", "--finish"))
	for i, through := range c.names {
		shoal(t, "--peer", through, "create", "namespace", fmt.Sprint("after-", i))
	}
}

// TestCertificatesAreRenewedUnderLoad has certificates that live for a minute, and clients that ask for longer.
func TestCertificatesAreRenewedUnderLoad(t *testing.T) {
	c := startLab(t, 3)
	c.configure(t, "[master]\npeer_certificates = \"60s\"\nadmin_certificates = \"10m\"\n")
	shoal(t, "rotate", "ca", "--overlap", "1s") // all have certificates of that kind then
	shoal(t, "rotate", "ca", "--finish")
	apply(t, rotators)
	since := everyoneSince(t)
	all := credentials(t, c)
	for who := range all {
		if strings.HasPrefix(who, "admin") {
			delete(all, who) // its certificate ends
		}
	}
	load := startLoad(t, all)
	ends := map[string]string{}
	changes := 0
	for end := time.Now().Add(75 * time.Second); time.Now().Before(end); <-time.After(5 * time.Second) {
		for _, name := range c.names {
			b, err := os.ReadFile(filepath.Join(lab.Dir, name, "data/pki/peer.pem"))
			must(t, err)
			if ends[name] != "" && ends[name] != string(b) {
				changes++
			}
			ends[name] = string(b)
		}
	}
	load.end(t)
	if changes < len(c.names) {
		t.Errorf("%d certificates were renewed", changes)
	}
	if now := everyoneSince(t); now != since {
		t.Errorf("the peers were as they are since %s, and now since %s", since, now)
	}
	t.Logf("FIGURES %d certificates were renewed", changes)
}

// rotators may do what the load does.
const rotators = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: rotor}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: rotors}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects:
- {kind: ServiceAccount, name: rotor, namespace: default}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: rotor}
`

// credentials are what an administrator, a user and a service account have of the cluster as it is now, for every peer.
func credentials(t *testing.T, c *cluster) map[string]*rest.Config {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"admin": filepath.Join(dir, "admin"), "user": filepath.Join(dir, "user")}
	// What the cluster gives to who asks now: the lab's own kubeconfig may be from before.
	must(t, os.WriteFile(files["user"], []byte(shoal(t, "user", "create", "rotor", "--ttl", "1h")), 0o600))
	must(t, os.WriteFile(files["admin"], []byte(shoal(t, "kubeconfig")), 0o600))
	hour := int64(3600)
	token, err := kubernetes.NewForConfigOrDie(load(t, files["admin"], c.names[0])).CoreV1().ServiceAccounts("default").
		CreateToken(t.Context(), "rotor", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}, metav1.CreateOptions{})
	must(t, err)
	all := map[string]*rest.Config{}
	for _, peer := range c.names {
		for who, file := range files {
			all[who+" at "+peer] = load(t, file, peer)
		}
		account := load(t, files["user"], peer)
		account.BearerToken = token.Status.Token
		all["account at "+peer] = account
	}
	return all
}

func load(t *testing.T, file, peer string) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: file}, &clientcmd.ConfigOverrides{CurrentContext: peer}).ClientConfig()
	must(t, err)
	cfg.QPS, cfg.Burst, cfg.Timeout = 1000, 1000, 10*time.Second
	return cfg
}

// clientset is client-go as it is, but that it makes a connection for each request if it is told to.
func clientset(t *testing.T, cfg *rest.Config, anew bool) *kubernetes.Clientset {
	t.Helper()
	conf, err := rest.TLSConfigFor(cfg)
	must(t, err)
	conf.NextProtos = []string{"h2", "http/1.1"}
	wrapped, err := rest.HTTPWrappersForConfig(cfg, &http.Transport{TLSClientConfig: conf, DisableKeepAlives: anew, ForceAttemptHTTP2: true})
	must(t, err)
	cs, err := kubernetes.NewForConfigAndClient(cfg, &http.Client{Transport: wrapped, Timeout: cfg.Timeout})
	must(t, err)
	return cs
}

func everyoneSince(t *testing.T) string {
	t.Helper()
	var list api.PeerList
	must(t, json.Unmarshal([]byte(shoal(t, "--peer", "peer-1", "peers", "-o", "json")), &list))
	var out []string
	for _, p := range list.Peers {
		if p.State != api.Alive || p.Unsteady != nil {
			t.Errorf("%s is %s", p.Name, p.State)
		}
		if p.Name != list.Peer {
			out = append(out, p.Name+" "+p.Since.Format(time.RFC3339Nano))
		}
	}
	return strings.Join(out, ", ")
}

func rotationAt(ctx context.Context, peer, what string) (r api.Rotation, err error) {
	out, err := tryShoal(ctx, "--peer", peer, "rotate", "status", "-o", "json")
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(out) {
		var one api.Rotation
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return r, err
		}
		if one.What == what {
			r = one
		}
	}
	return r, nil
}
