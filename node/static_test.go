package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
)

// files are manifests that a test writes.
type files struct {
	mu      sync.Mutex
	all     map[string][]byte
	changed chan struct{}
}

func newFiles() *files { return &files{all: map[string][]byte{}, changed: make(chan struct{})} }

func (f *files) Files() (map[string][]byte, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string][]byte{}
	for name, b := range f.all {
		out[name] = b
	}
	return out, f.changed, nil
}

// put writes a file, or removes it when there is nothing to write.
func (f *files) put(name, content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[name] = []byte(content); content == "" {
		delete(f.all, name)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

const aStaticPod = `apiVersion: v1
kind: Pod
metadata: {name: s}
spec:
  terminationGracePeriodSeconds: 5
  containers: [{name: c, image: app, imagePullPolicy: IfNotPresent}]
`

// inStatic runs f in a world whose node has static pods.
func inStatic(t *testing.T, f func(w *world, dir *files)) {
	inWorld(t, func(w *world) {
		dir := newFiles()
		w.halt()
		w.config = func(c *Config) { c.Manifests = dir }
		w.start()
		f(w, dir)
	})
}

func TestAStaticPodRunsAndIsMirrored(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		dir.put("s.yaml", aStaticPod)
		w.settle()
		p := w.wantRunning("s-" + me)
		held := w.held()
		if len(held) != 1 || held[0].UID != mirrored(p) || held[0].UID == p.UID || !metav1.IsControlledBy(p, w.self()) {
			t.Fatalf("held %v, mirror %s of %s, owners %v", held, p.UID, mirrored(p), p.OwnerReferences)
		}
		t.Log("a deleted mirror is made again, and nothing ends for that")
		w.delete(p.Name, 30)
		w.settle()
		again := w.wantRunning(p.Name)
		if again.UID == p.UID || len(w.held()) != 1 || w.held()[0].Containers[0].ID != held[0].Containers[0].ID {
			t.Errorf("mirror %s after %s, held %v", again.UID, p.UID, w.held())
		}
		t.Log("the next life of the node takes it over")
		w.halt()
		w.start()
		w.wantRunning(p.Name)
		if w.held()[0].Containers[0].ID != held[0].Containers[0].ID {
			t.Error("its container was started again")
		}
		t.Log("another content is another pod")
		dir.put("s.yaml", strings.Replace(aStaticPod, "{name: s}", "{name: s, labels: {new: really}}", 1))
		w.settle()
		if p := w.wantRunning(p.Name); p.Labels["new"] != "really" || mirrored(p) == held[0].UID || len(w.held()) != 1 {
			t.Errorf("labels %v, held %v", p.Labels, w.held())
		}
		t.Log("the old content is the old pod again, whatever is left of it")
		dir.put("s.yaml", aStaticPod)
		w.settle()
		if p := w.wantRunning(p.Name); mirrored(p) != held[0].UID {
			t.Errorf("%s is a mirror of %s, want %s", p.Name, mirrored(p), held[0].UID)
		}
		dir.put("s.yaml", "")
		w.settle()
		w.wantNothing()
		if w.get(p.Name) != nil {
			t.Error("its mirror is left")
		}
	})
}

// self returns the world's Node.
func (w *world) self() *corev1.Node {
	o, err := w.api.Get(w.t.Context(), api.Nodes, client.Key{Name: me}, client.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return o.(*corev1.Node)
}

func TestAStaticPodEndsInItsOwnTime(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		dir.put("s.yaml", aStaticPod)
		w.settle()
		w.runtime.IgnoreStop(mirrored(w.wantRunning("s-"+me)), "c")
		dir.put("s.yaml", "")
		w.pass(2 * time.Second)
		if len(w.held()) != 1 || w.get("s-"+me) == nil {
			t.Fatal("it had no grace, or its mirror went before it")
		}
		t.Log("it is wanted again before it has ended")
		dir.put("s.yaml", aStaticPod)
		w.pass(10 * time.Second)
		w.wantRunning("s-" + me)
		if len(w.held()) != 1 || w.held()[0].Containers[0].Attempt != 0 {
			t.Errorf("held %+v", w.held())
		}
	})
}

func TestStaticPodsNeedNoAPI(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		w.halt()
		w.client = unreachable{w.api}
		dir.put("s.yaml", aStaticPod)
		w.start()
		w.pass(patience)
		if len(w.held()) != 1 {
			t.Fatalf("held %v", w.held())
		}
		t.Log("the API that comes is shown what runs")
		id := w.held()[0].Containers[0].ID
		w.halt()
		w.client = nil
		w.start()
		w.wantRunning("s-" + me)
		if w.held()[0].Containers[0].ID != id {
			t.Error("its container was started again")
		}
		t.Log("a file that went while nobody looked")
		w.halt()
		dir.put("s.yaml", "")
		w.start()
		w.wantNothing()
		if w.get("s-"+me) != nil {
			t.Error("its mirror is left")
		}
	})
}

// refusing is an API that makes no pods at first.
type refusing struct {
	client.Interface
	times *int
}

func (r refusing) Create(ctx context.Context, k *api.Kind, o k8sruntime.Object, opts client.CreateOptions) (k8sruntime.Object, error) {
	if k == api.Pods && *r.times > 0 {
		*r.times--
		return nil, errors.New("not now")
	}
	return r.Interface.Create(ctx, k, o, opts)
}

func TestAMirrorThatIsRefusedIsTriedAgain(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		w.halt()
		times := 3
		w.client = refusing{w.api, &times}
		w.start()
		dir.put("s.yaml", aStaticPod)
		w.pass(5 * time.Second)
		w.wantRunning("s-" + me)
	})
}

// late is an API that says nothing of pods until it is open; everything else it says at once.
type late struct {
	client.Interface
	open *atomic.Bool
}

func (l late) List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error) {
	if k == api.Pods && !l.open.Load() {
		return nil, apierrors.NewServiceUnavailable("not yet")
	}
	return l.Interface.List(ctx, k, o)
}

func (l late) Watch(ctx context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	if k == api.Pods && !l.open.Load() {
		return nil, apierrors.NewServiceUnavailable("not yet")
	}
	return l.Interface.Watch(ctx, k, o)
}

func TestAStaticPodIsShownToAnAPIThatComesLate(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		w.halt()
		var open atomic.Bool
		w.client = late{w.api, &open}
		dir.put("s.yaml", aStaticPod)
		w.start()
		w.pass(time.Minute) // the Node is registered, and everything has settled
		if len(w.held()) != 1 || w.get("s-"+me) != nil {
			t.Fatalf("held %v, mirror %v", w.held(), w.get("s-"+me))
		}
		open.Store(true)
		w.pass(time.Minute)
		w.wantRunning("s-" + me)
	})
}

func TestFilesThatAreNoStaticPods(t *testing.T) {
	inStatic(t, func(w *world, dir *files) {
		for content, want := range map[string]string{
			"":                                "",
			"hello":                           "cannot",
			"apiVersion: v1\nkind: Service":   "Service",
			aStaticPod + "---\n" + aStaticPod: "a file is one pod",
			strings.Replace(aStaticPod, "s}", "}", 1):                                                        "",
			strings.Replace(aStaticPod, "name: s", "name: S", 1):                                             "metadata.name",
			strings.Replace(aStaticPod, "spec:", "spec:\n  volumes: 3", 1):                                   "volumes",
			strings.Replace(aStaticPod, "spec:", "spec:\n  nonsense: 3", 1):                                  `unknown field "spec.nonsense"`,
			strings.Replace(aStaticPod, "spec:", "spec:\n  serviceAccountName: x", 1):                        "serviceAccountName",
			strings.Replace(aStaticPod, "spec:", "spec:\n  imagePullSecrets: [{name: x}]", 1):                `Secret "x"`,
			strings.Replace(aStaticPod, "image: app", "image: app, envFrom: [{configMapRef: {name: x}}]", 1): `ConfigMap "x"`,
			strings.Replace(aStaticPod, "image: app", "image: ''", 1):                                        "spec.containers[0].image",
		} {
			_, err := w.node.parseStatic("f.yaml", []byte(content))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", content, err, want)
			}
		}
		if _, err := w.node.parseStatic("f.yaml", []byte("---\n"+aStaticPod)); err != nil {
			t.Error(err)
		}
		t.Log("what a file was stays until it is something else")
		dir.put("s.yaml", aStaticPod)
		w.settle()
		w.wantRunning("s-" + me)
		dir.put("s.yaml", aStaticPod+"  what: is this")
		dir.put("t.yaml", strings.Replace(aStaticPod, "apiVersion", "# another file\napiVersion", 1))
		w.settle()
		w.wantRunning("s-" + me)
		if len(w.held()) != 1 {
			t.Errorf("held %v", w.held())
		}
		t.Log("a pod of the API's is none, whatever it says")
		p := w.pod("liar", func(p *corev1.Pod) {
			p.Annotations = map[string]string{annotationSource: sourceFile, annotationHash: "static-1"}
		})
		w.settle()
		w.wantRunning("liar")
		w.delete(p.Name, 0)
		w.settle()
		if w.get("liar") != nil {
			t.Error("it cannot be deleted")
		}
		if said := w.events("FailedStaticPod"); !strings.Contains(said, `unknown field "spec.what"`) || !strings.Contains(said, "t.yaml: its pod s-peer-1 is that of s.yaml, too") {
			t.Errorf("events: %s", said)
		}
	})
}

// events returns the messages of all events with a reason.
func (w *world) events(reason string) string {
	l, err := w.api.List(w.t.Context(), api.Events, client.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var said []string
	for _, o := range l.Items {
		if e := o.(*corev1.Event); e.Reason == reason {
			said = append(said, e.Message)
		}
	}
	return fmt.Sprint(said)
}

func FuzzStaticPod(f *testing.F) {
	f.Add("a.yaml", []byte(aStaticPod))
	f.Add("a.json", []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}`))
	f.Add("", []byte("a: &a [*a]"))
	n := New(Config{Machine: Machine{Name: me}})
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		p, err := n.parseStatic(name, content)
		if err == nil && (!isStatic(p) || p.Spec.NodeName != me || len(referred(p)) > 0) {
			t.Errorf("%+v", p)
		}
	})
}
