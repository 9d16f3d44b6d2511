//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// depot is a registry outside the cluster, on the lab's host, that counts what it serves. What is below private/ is for ann.
type depot struct {
	*http.Server
	host  string
	mu    sync.Mutex
	blobs map[string]int // GETs of each, by path
}

func openDepot(t *testing.T) *depot {
	t.Helper()
	l, err := net.Listen("tcp", "10.99.77.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	d := &depot{host: l.Addr().String(), blobs: map[string]int{}}
	d.Server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); strings.HasPrefix(r.URL.Path, "/v2/private/") && user+":"+password != "ann:right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="depot"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			d.mu.Lock()
			d.blobs[r.URL.Path]++
			d.mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	})}
	go func() { _ = d.Serve(l) }()
	t.Cleanup(func() { _ = d.Close() })
	img, err := tarball.ImageFromPath(filepath.Join(repo(), "build/images/probe.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"team/app:v1", "team/app:v2", "private/app:v1"} {
		own, err := random.Layer(4<<20, types.DockerLayer) // the machines have the tests' image itself
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(img, own)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(d.host+"/"+at, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: "ann", Password: "right"})); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// served returns how many blobs below a path were asked for, and how many of them more than once.
func (d *depot) served(below string) (blobs, again int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, n := range d.blobs {
		if strings.HasPrefix(path, "/v2/"+below) {
			blobs++
			if n > 1 {
				again++
			}
		}
	}
	return blobs, again
}

func (d *depot) pod(name, node, image, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: %s, args: [serve, "8080"]}]
%s
`, name, node, image, more)
}

const withSecret = "  imagePullSecrets: [{name: pull}]"

// TestImagesOfTheCluster is about where images come from: one fetch from outside serves all machines, a registry that is away stops nothing, what was
// pulled with a password is for those who have it, and mirrors stand in for registries.
func TestImagesOfTheCluster(t *testing.T) {
	c := startLab(t, 3)
	d := openDepot(t)
	c.configure(t, fmt.Sprintf("insecure_registries = [%q]\n[runtime.mirrors]\n\"registry.example\" = [\"http://%[1]s\"]\n", d.host))
	ctx := t.Context()

	t.Log("a DaemonSet's image is fetched once")
	apply(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: "%s/team/app:v1", args: [serve, "8080"]}]
`, d.host))
	running(t, c.api, "everywhere", 3, time.Minute)
	if blobs, again := d.served("team/"); blobs < 2 || again > 0 {
		t.Errorf("of %d blobs, 3 machines took %d more than once from outside", blobs, again)
	}
	within(t, 10*time.Second, "the Nodes say that they hold it", func(ctx context.Context) error {
		for _, name := range c.names {
			o, err := c.api.Get(ctx, api.Nodes, client.Key{Name: name}, client.GetOptions{})
			if err != nil {
				return err
			}
			if got := fmt.Sprint(o.(*corev1.Node).Status.Images); !strings.Contains(got, d.host+"/team/app:v1") {
				return fmt.Errorf("%s holds %s", name, got)
			}
		}
		return nil
	})

	t.Log("what was pulled with a password is for those who have it")
	cmd := exec.CommandContext(ctx, binary(), "image", "pull", "-u", "ann", "--on", "peer-1", d.host+"/private/app:v1")
	cmd.Stdin = strings.NewReader("right\n")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "peer-1: ") {
		t.Fatalf("pull: %v %s", err, out)
	}
	apply(t, d.pod("stranger", "peer-1", d.host+"/private/app:v1", ""))
	refused(t, c.api, "stranger", "authorization failed")
	apply(t, d.pod("friend", "peer-1", d.host+"/private/app:v1", withSecret))
	refused(t, c.api, "friend", "authorization failed")
	login := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "pull", Namespace: "default"}, Type: corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: fmt.Sprintf(`{"auths":{"%s/private":{"username":"ann","password":"right"}}}`, d.host)},
	}
	if _, err := c.api.Create(ctx, api.Secrets, login, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	took := running(t, c.api, "friend", 1, 10*time.Second)
	t.Logf("the pod ran %v after its Secret was there", took.Round(time.Millisecond))

	t.Log("a mirror stands in")
	apply(t, d.pod("mirrored", "peer-2", "registry.example/team/app:v2", ""))
	running(t, c.api, "mirrored", 1, 20*time.Second)

	t.Log("the registry goes away")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, d.pod("late", "peer-3", d.host+"/private/app:v1", withSecret))
	running(t, c.api, "late", 1, 20*time.Second)
	apply(t, d.pod("late-stranger", "peer-2", d.host+"/private/app:v1", ""))
	refused(t, c.api, "late-stranger", "connection refused")
	always := strings.Replace(d.pod("always", "peer-3", "registry.example/team/app:v2", ""), "args:", "imagePullPolicy: Always, args:", 1)
	apply(t, always)
	running(t, c.api, "always", 1, 20*time.Second)
}

// refused waits until a pod says that its image cannot be had, and why.
func refused(t *testing.T, c client.Interface, pod, why string) {
	t.Helper()
	within(t, 30*time.Second, pod+" is refused its image", func(ctx context.Context) error {
		o, err := c.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: pod}, client.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range o.(*corev1.Pod).Status.ContainerStatuses {
			if s.State.Running != nil {
				t.Fatalf("%s runs", pod)
			}
			if w := s.State.Waiting; w != nil && strings.Contains(w.Message, why) {
				return nil
			}
		}
		return fmt.Errorf("%+v", o.(*corev1.Pod).Status.ContainerStatuses)
	})
}
