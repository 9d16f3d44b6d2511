//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// TestFloodsLeaveOthersAlone measures what a tenant gets and creates, with one client and pauses, alone and while another tenant floods the same peer from
// 128 connections. The flood's clients stand for other machines: they are another process, which runs only where nothing else would. How far that is true
// here, a process shows that asks nobody and only computes ("spin"). FLOOD_TIME says for how long each is measured, FLOOD_CONNECTIONS from how many
// connections, FLOOD_KINDS what the floods ask for: gets, creates, lists, all of them.
func TestFloodsLeaveOthersAlone(t *testing.T) {
	span, err := time.ParseDuration(cmp.Or(os.Getenv("FLOOD_TIME"), "3s"))
	if err != nil {
		t.Fatal("FLOOD_TIME: ", err)
	}
	c := startLab(t, 3)
	quiet, loud := newTenant(t, "quiet"), newTenant(t, "loud")
	leader := master(t)
	quiet.fill(t, leader, 10)
	loud.fill(t, leader, 1000)
	for _, kind := range strings.Split(cmp.Or(os.Getenv("FLOOD_KINDS"), "spin,all"), ",") {
		for what, peer := range map[string]string{"Master": leader, "follower": c.others(leader)[0]} {
			alone := quiet.measure(t, peer, span)
			end := loud.flood(t, peer, kind)
			flooded := quiet.measure(t, peer, span)
			t.Logf("FIGURES at the %s another tenant floods with %s: %s", what, kind, end())
			for i, call := range []string{"get", "create"} {
				a, f := alone[i], flooded[i]
				t.Logf("FIGURES at the %-8s %-6s of %4d, median and p99: alone %5.2f %6.2f ms; flooded (%s) %5.2f %6.2f ms; ratios %.2f %.2f", what, call, len(f.each),
					a.at(0.5), a.at(0.99), kind, f.at(0.5), f.at(0.99), f.at(0.5)/a.at(0.5), f.at(0.99)/a.at(0.99))
			}
		}
	}
}

// tenant is one with a namespace and a user of that name.
type tenant struct{ name, config string }

func newTenant(t *testing.T, name string) tenant {
	t.Helper()
	shoal(t, "tenant", "create", name, "--user", name)
	n := tenant{name, filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(n.config, []byte(shoal(t, "-n", name, "user", "create", name, "--ttl", "1h")), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// flooder is a client on a connection of its own that speaks as a tenant's user.
type flooder struct {
	http.Client
	maps, token string // URL of the ConfigMaps
}

func newFlooder(config, peer, namespace, proto string) (*flooder, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: config}, &clientcmd.ConfigOverrides{CurrentContext: peer}).ClientConfig()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, err
	}
	tlsConfig.NextProtos = []string{proto}
	f := &flooder{maps: cfg.Host + "/api/v1/namespaces/" + namespace + "/configmaps", token: cfg.BearerToken}
	f.Client = http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: proto == "h2"}}
	return f, nil
}

var errCrowded = errors.New("too many requests")

func (f *flooder) ask(ctx context.Context, method, path string, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, f.maps+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		if resp.StatusCode == http.StatusTooManyRequests {
			err = errCrowded
		}
		return errors.Join(fmt.Errorf("%s %s%s: %s %s", method, f.maps, path, resp.Status, b), err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (f *flooder) create(ctx context.Context, name string) error {
	return f.ask(ctx, http.MethodPost, "", fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q},"data":{"v":%q}}`, name, strings.Repeat("x", objectSize)))
}

func (n tenant) client(t *testing.T, peer string) *flooder {
	t.Helper()
	f, err := newFlooder(n.config, peer, n.name, "h2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.CloseIdleConnections)
	return f
}

// fill creates objects to be read.
func (n tenant) fill(t *testing.T, peer string, objects int) {
	t.Helper()
	f := n.client(t, peer)
	parallel(t, 16, objects, func(ctx context.Context, _, i int) error { return f.create(ctx, fmt.Sprint("kept-", i)) })
}

// measure gets and creates one after the other, with pauses, and returns how long each took. Nothing may be refused.
func (n tenant) measure(t *testing.T, peer string, span time.Duration) (both [2]timed) {
	t.Helper()
	f := n.client(t, peer)
	if err := f.ask(t.Context(), http.MethodGet, "/kept-0", ""); err != nil { // and connect
		t.Fatal(err)
	}
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	begun := time.Now()
	for i := 0; time.Since(begun) < span; i++ {
		for j, call := range []func() error{
			func() error { return f.ask(t.Context(), http.MethodGet, fmt.Sprint("/kept-", i%10), "") },
			func() error { return f.create(t.Context(), fmt.Sprint(peer, "-", begun.UnixMilli(), "-", i)) },
		} {
			<-pause.C
			at := time.Now()
			if err := call(); err != nil {
				t.Fatalf("a quiet tenant's request: %v", err)
			}
			both[j].each = append(both[j].each, time.Since(at))
		}
	}
	for i := range both {
		slices.Sort(both[i].each)
	}
	return both
}

// flood starts a process that floods a peer. It returns what ends it and tells what it did.
func (n tenant) flood(t *testing.T, peer, kind string) (end func() string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", self, "-test.run", "^TestFloodProcess$")
	cmd.Env = append(os.Environ(), "SHOAL_FLOOD="+kind, "SHOAL_FLOOD_CONFIG="+n.config, "SHOAL_FLOOD_PEER="+peer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	leaveCores(t, cmd.Process.Pid)
	<-time.After(2 * time.Second) // until all its connections are there and busy
	end = sync.OnceValue(func() string {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the flood: %v\n%s", err, out.String())
		}
		said, _, _ := strings.Cut(out.String(), "\n")
		return said
	})
	t.Cleanup(func() { end() })
	return end
}

// leaveCores has a process run only where nobody else would, as if it were on another machine: nice alone lets it end its slice first.
func leaveCores(t *testing.T, pid int) {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		group := filepath.Join(dir, fmt.Sprint("flood-", pid))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) })
		if os.WriteFile(filepath.Join(group, "cpu.idle"), []byte("1"), 0) == nil && os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) == nil {
			return
		}
	}
	t.Log("no group of processes can be made idle here: the flood's clients take time from the peers")
}

// TestFloodProcess is the process of a flood: it runs until its input ends.
func TestFloodProcess(t *testing.T) {
	kind := os.Getenv("SHOAL_FLOOD")
	if kind == "" {
		t.Skip("TestFloodsLeaveOthersAlone runs it")
	}
	n, err := strconv.Atoi(cmp.Or(os.Getenv("FLOOD_CONNECTIONS"), "128"))
	if err != nil {
		t.Fatal("FLOOD_CONNECTIONS: ", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var count struct{ Lists, Creates, Gets, Refused, Failed atomic.Int64 }
	var all sync.WaitGroup
	begun := time.Now()
	for c := range n {
		f, err := newFlooder(os.Getenv("SHOAL_FLOOD_CONFIG"), os.Getenv("SHOAL_FLOOD_PEER"), "loud", "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		mine := kind
		if kind == "all" {
			mine = []string{"lists", "creates", "gets"}[c%3]
		}
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				var err error
				done := &count.Lists
				switch mine {
				case "spin":
					for time.Since(begun) > 0 && ctx.Err() == nil {
					}
				case "lists":
					err = f.ask(ctx, http.MethodGet, "", "")
				case "gets":
					done = &count.Gets
					err = f.ask(ctx, http.MethodGet, fmt.Sprint("/kept-", i%1000), "")
				case "creates":
					done = &count.Creates
					name := fmt.Sprintf("load-%d-%d-%d", os.Getpid(), c, i)
					if err = f.create(ctx, name); err == nil {
						err = f.ask(ctx, http.MethodDelete, "/"+name, "") // so that lists do not grow
					}
				}
				switch {
				case errors.Is(err, errCrowded):
					done = &count.Refused
				case err != nil && ctx.Err() == nil:
					done = &count.Failed
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	rates := map[string]int{}
	for name, c := range map[string]*atomic.Int64{"lists/s": &count.Lists, "creates and deletes/s": &count.Creates, "gets/s": &count.Gets, "refused": &count.Refused, "failed": &count.Failed} {
		if v := float64(c.Load()); v > 0 && strings.HasSuffix(name, "/s") {
			rates[name] = int(v / time.Since(begun).Seconds())
		} else if v > 0 {
			rates[name] = int(v)
		}
	}
	b, err := json.Marshal(rates)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(b))
}
