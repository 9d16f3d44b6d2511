//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/yaml"

	"shoal/internal/lab"
)

// TestClientGo does what programs do with Kubernetes' own client library, at a follower.
func TestClientGo(t *testing.T) {
	c := startLab(t, 3)
	at := c.others(master(t))
	cfg := restConfig(t, at[0])
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name string
		run  func(t *testing.T, cfg *rest.Config, c *kubernetes.Clientset)
	}{
		{"typed", typedClient},
		{"server-side apply", applyConfigurations},
		{"dynamic, and kinds of one's own", dynamicClient},
		{"metadata", metadataClient},
		{"discovery", discoveryClient},
		{"leader election", electionByLease},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(t, cfg, typed) })
	}
	t.Run("an informer outlives its peer", func(t *testing.T) { informerOutlivesPeer(t, at) })
}

// restConfig is that of an administrator at a peer.
func restConfig(t *testing.T, peer string) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: lab.Kubeconfig()}, &clientcmd.ConfigOverrides{CurrentContext: peer}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	return cfg
}

func settings(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"by": "client-go"}}, Data: map[string]string{"a": "1"}}
}

func typedClient(t *testing.T, _ *rest.Config, c *kubernetes.Clientset) {
	maps, ctx := c.CoreV1().ConfigMaps("default"), t.Context()
	before, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: before.ResourceVersion, LabelSelector: "by=client-go"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := maps.Create(ctx, settings("typed"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Data["a"] = "2"
	if _, err = maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = maps.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of what has changed since: %v", err)
	}
	if _, err = maps.Patch(ctx, "typed", types.StrategicMergePatchType, []byte(`{"data":{"b":"3"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := maps.Get(ctx, "typed", metav1.GetOptions{})
	if err != nil || got.Data["a"] != "2" || got.Data["b"] != "3" {
		t.Errorf("got %v, %v", got, err)
	}
	if err = maps.Delete(ctx, "typed", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(got.UID))}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Deleted} {
		select {
		case ev := <-w.ResultChan():
			if ev.Type != want {
				t.Errorf("watched %s, want %s", ev.Type, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s came", want)
		}
	}
	if _, err = maps.Get(ctx, "typed", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its deletion: %v", err)
	}
}

func applyConfigurations(t *testing.T, _ *rest.Config, c *kubernetes.Clientset) {
	maps, ctx := c.CoreV1().ConfigMaps("default"), t.Context()
	mine := applycorev1.ConfigMap("applied", "default").WithData(map[string]string{"a": "1"})
	if _, err := maps.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	yours := applycorev1.ConfigMap("applied", "default").WithData(map[string]string{"a": "2", "b": "2"})
	if _, err := maps.Apply(ctx, yours, metav1.ApplyOptions{FieldManager: "two"}); !apierrors.IsConflict(err) {
		t.Errorf("what is another's: %v", err)
	}
	got, err := maps.Apply(ctx, yours, metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || got.Data["a"] != "2" || got.Data["b"] != "2" {
		t.Errorf("by force: %v, %v", got, err)
	}
	part, err := applycorev1.ExtractConfigMap(got, "two")
	if err != nil || len(part.Data) != 2 {
		t.Errorf("extracted %v, %v", part, err)
	}
	// What its only owner no longer wants goes.
	got, err = maps.Apply(ctx, applycorev1.ConfigMap("applied", "default").WithData(map[string]string{"a": "2"}), metav1.ApplyOptions{FieldManager: "two"})
	if _, there := got.Data["b"]; err != nil || there {
		t.Errorf("without b: %v, %v", got, err)
	}
}

func dynamicClient(t *testing.T, cfg *rest.Config, _ *kubernetes.Clientset) {
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "tour", "boats.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	definition, ctx := &unstructured.Unstructured{}, t.Context()
	if err := yaml.Unmarshal(text, &definition.Object); err != nil {
		t.Fatal(err)
	}
	definitions := c.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err = definitions.Create(ctx, definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the kind is established", func(ctx context.Context) error {
		d, err := definitions.Get(ctx, definition.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(d.Object, "status", "conditions")
		for _, v := range conditions {
			if m := v.(map[string]any); m["type"] == "Established" && m["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", conditions)
	})
	// Whoever has seen that can use the kind at every peer, at once.
	for _, p := range labPeers(t) {
		other, err := dynamic.NewForConfig(restConfig(t, p.Name))
		if err != nil {
			t.Fatal(err)
		}
		boats := other.Resource(schema.GroupVersionResource{Group: "sea.example.com", Version: "v1", Resource: "boats"}).Namespace("default")
		boat := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "sea.example.com/v1", "kind": "Boat", "metadata": map[string]any{"name": p.Name}, "spec": map[string]any{"hull": "wood"},
		}}
		if _, err := boats.Create(ctx, boat, metav1.CreateOptions{}); err != nil {
			t.Errorf("at %s: %v", p.Name, err)
		}
		boat.Object["status"] = map[string]any{"oars": int64(1)}
		if got, err := boats.ApplyStatus(ctx, p.Name, boat, metav1.ApplyOptions{FieldManager: "me", Force: true}); err != nil || got.Object["status"] == nil {
			t.Errorf("its status at %s: %v, %v", p.Name, got, err)
		}
	}
	if err := definitions.Delete(ctx, definition.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the kind is gone", func(ctx context.Context) error {
		_, err := definitions.Get(ctx, definition.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is still there: %w", err)
	})
}

func metadataClient(t *testing.T, cfg *rest.Config, typed *kubernetes.Clientset) {
	c, err := metadata.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := typed.CoreV1().ConfigMaps("default").Create(t.Context(), settings("meta"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	maps := c.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace("default")
	l, err := maps.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=meta"})
	if err != nil || len(l.Items) != 1 || l.Items[0].Labels["by"] != "client-go" || l.Items[0].UID == "" {
		t.Errorf("got %v, %v", l, err)
	}
	if err := maps.Delete(t.Context(), "meta", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func discoveryClient(t *testing.T, _ *rest.Config, c *kubernetes.Clientset) {
	groups, resources, err := c.Discovery().ServerGroupsAndResources()
	if err != nil || len(groups) < 10 || len(resources) < 10 {
		t.Errorf("%d groups, %d lists of resources, %v", len(groups), len(resources), err)
	}
	v, err := c.Discovery().ServerVersion()
	if err != nil || v.Major != "1" {
		t.Errorf("version %v, %v", v, err)
	}
	paths, err := c.Discovery().OpenAPIV3().Paths()
	if err != nil || paths["apis/apps/v1"] == nil {
		t.Errorf("OpenAPI: %v, %v", paths, err)
	}
}

// electionByLease lets two candidates lead one after the other.
func electionByLease(t *testing.T, _ *rest.Config, c *kubernetes.Clientset) {
	leads := make(chan string, 2)
	var all sync.WaitGroup
	defer all.Wait()
	campaign := func(name string) context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: "lead"}, Client: c.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: name},
				},
				LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { leads <- name }, OnStoppedLeading: func() {}},
			})
		})
		return cancel
	}
	next := func() string {
		select {
		case name := <-leads:
			return name
		case <-time.After(20 * time.Second):
			t.Fatal("nobody leads")
			return ""
		}
	}
	stop := campaign("one")
	if name := next(); name != "one" {
		t.Errorf("%s leads", name)
	}
	defer campaign("two")()
	stop()
	if name := next(); name != "two" {
		t.Errorf("then %s leads", name)
	}
}

// informerOutlivesPeer cuts the power of the machine that an informer is connected to. The informer's connections find another one.
func informerOutlivesPeer(t *testing.T, peers []string) {
	// How long a client waits before it asks whether a silent connection is alive, and for the answer; by default 30 s and 15 s.
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "4")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "2")
	cfg := restConfig(t, peers[0])
	cfg.ServerName = "kubernetes"
	var addrs []string
	for _, name := range peers {
		addrs = append(addrs, restConfig(t, name).Host[len("https://"):])
	}
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, addr := range addrs {
			one, cancel := context.WithTimeout(ctx, time.Second)
			conn, err := new(net.Dialer).DialContext(one, network, addr)
			cancel()
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	other, err := kubernetes.NewForConfig(restConfig(t, peers[1]))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace("default"))
	defer factory.Shutdown()
	defer cancel()
	informer := factory.Core().V1().ConfigMaps()
	seen := make(chan string, 100)
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { seen <- o.(*corev1.ConfigMap).Name }}); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		t.Fatal("no first list")
	}
	expect := func(name string, limit time.Duration) {
		t.Helper()
		began, late := time.Now(), time.After(limit)
		for {
			select {
			case got := <-seen:
				if got == name {
					t.Logf("%s was seen after %v", name, time.Since(began).Round(time.Millisecond))
					return
				}
			case <-late:
				t.Fatalf("%s was not seen within %v", name, limit)
			}
		}
	}
	if _, err := other.CoreV1().ConfigMaps("default").Create(ctx, settings("before"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("before", 10*time.Second)
	shoal(t, "lab", "kill", peers[0])
	within(t, 20*time.Second, "a write at another peer", func(ctx context.Context) error {
		_, err := other.CoreV1().ConfigMaps("default").Create(ctx, settings("after"), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	// The dead machine sends nothing; the client's own health check of its connection finds out after 45 s.
	expect("after", 90*time.Second)
}
