//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// aBadPod is a pod that something is wrong with, or that does wrong, and what must be said of it, in its status or its events.
type aBadPod struct {
	name, container, pod string // what its container and the pod are besides
	says                 []string
	logs                 string // what its log says
}

func badPods() []aBadPod {
	const shell = `image: "shoal.local/busybox:1", command: [sh, -c, %q]`
	sh := func(script, more string) string { return fmt.Sprintf(shell, script) + more }
	return []aBadPod{
		{name: "no-image", container: `image: "nowhere.invalid/app:1"`, says: []string{"ErrImagePull", "nowhere.invalid"}},
		{name: "bad-name", container: `image: "Not An Image"`, says: []string{"InvalidImageName"}},
		{name: "other-arch", container: `image: "bad.local/otherarch:1"`, says: []string{"Error"}, logs: "exec format error"},
		{name: "no-command", container: `image: "shoal.local/busybox:1", command: [/nowhere]`, says: []string{"StartError", "/nowhere", "no such file or directory"}},
		{name: "no-directory", container: sh("sleep 9999", ", workingDir: /bin/busybox"), says: []string{"StartError", "/bin/busybox"}},
		{
			name: "no-mount", container: sh("sleep 9999", ", volumeMounts: [{name: v, mountPath: /v}]"), pod: "volumes: [{name: v, hostPath: {path: /nowhere, type: Directory}}]",
			says: []string{"FailedMount", "/nowhere"},
		},
		{name: "no-user", container: `image: "bad.local/nouser:1"`, says: []string{"CreateContainerConfigError", "nobody-here"}},
		{name: "no-map", container: sh("sleep 9999", ", envFrom: [{configMapRef: {name: nowhere}}]"), says: []string{"CreateContainerConfigError", `"nowhere"`}},
		{name: "port-clash", container: sh("sleep 9999", ", ports: [{containerPort: 80, hostPort: 8099}]"), says: []string{"NodePorts"}},
		{name: "no-memory", container: sh("sleep 9999", `, resources: {limits: {memory: "4096"}}`), says: []string{"memory"}},
		{name: "no-room", container: sh("sleep 9999", `, resources: {requests: {cpu: "900"}}`), says: []string{"OutOfcpu"}},
	}
}

func (b aBadPod) manifest() string {
	return fmt.Sprintf("\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %[1]s}}\nspec:\n  nodeName: peer-1\n  terminationGracePeriodSeconds: 1\n  containers: [{name: app, %s}]\n  %s\n",
		b.name, b.container, b.pod)
}

// TestBadPodsDisturbNobody runs pods that cannot run, and pods that do what they can to harm, beside one that serves: each bad one says what is wrong with it,
// the good one loses no request, and nothing of the bad ones is left.
func TestBadPodsDisturbNobody(t *testing.T) {
	c := startLab(t, 1)
	c.configure(t, "pod_pids = 300\n")
	for _, file := range []string{filepath.Join(repo(), "build/images/busybox.tar"), evilImages(t)} {
		shoal(t, "image", "import", file)
	}
	apply(t, web(1))
	running(t, c.api, "web", 1, 30*time.Second)
	apply(t, aBadPod{name: "has-port", container: `image: "shoal.local/busybox:1", command: [sleep, "9999"], ports: [{containerPort: 80, hostPort: 8099}]`}.manifest())
	running(t, c.api, "has-port", 1, 30*time.Second)
	startAsking(t, "asker", "peer-1", 25*time.Second)
	before := whole(t, labPeers(t)[0])

	t.Run("what cannot run says why", func(t *testing.T) {
		var all strings.Builder
		for _, b := range badPods() {
			all.WriteString(b.manifest())
		}
		apply(t, all.String())
		for _, b := range badPods() {
			var said string
			took := within(t, 20*time.Second, b.name+" says why", func(ctx context.Context) error {
				said = everythingSaid(ctx, c, b.name)
				for _, want := range b.says {
					if !strings.Contains(said, want) {
						return fmt.Errorf("no %q in %s", want, said)
					}
				}
				if b.logs != "" {
					if out, err := tryShoal(ctx, "logs", b.name); err != nil || !strings.Contains(out, b.logs) {
						return fmt.Errorf("no %q in its log: %q, %w", b.logs, out, err)
					}
				}
				return nil
			})
			t.Logf("%s after %s: %s", b.name, took.Round(time.Millisecond), said)
		}
	})
	for what, f := range map[string]func(*testing.T, *cluster){
		"a container that forks without end":        forkBomb,
		"one that prints a line of a gigabyte":      endlessLine,
		"one that closes its output":                closedOutput,
		"one that ignores that it has to end":       stubborn,
		"an image that tries to leave its own root": evilImage,
	} {
		t.Run(what, func(t *testing.T) { f(t, c) })
	}
	if a := answers(t, "asker", 90*time.Second); a.failed > 0 || a.sent < 1000 {
		t.Errorf("%d of %d requests of the good pod failed", a.failed, a.sent)
	}
	found, err := pods(t.Context(), c.api, "web")
	if err != nil || len(found) != 1 || found[0].Status.ContainerStatuses[0].RestartCount > 0 {
		t.Errorf("the good pod: %v, %v", found, err)
	}
	for _, b := range badPods() {
		shoal(t, "delete", "pod", b.name)
	}
	shoal(t, "delete", "pod", "asker")
	within(t, 30*time.Second, "nothing of them is left", func(context.Context) error {
		for what, n := range whole(t, labPeers(t)[0]) {
			if n > before[what] {
				return fmt.Errorf("%d %s, %d before", n, what, before[what])
			}
		}
		return nil
	})
}

// everythingSaid is all reasons and messages of a pod's status and events.
func everythingSaid(ctx context.Context, c *cluster, name string) string {
	o, err := c.api.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
	if err != nil {
		return err.Error()
	}
	s := o.(*corev1.Pod).Status
	said := []string{s.Reason, s.Message}
	for _, cs := range s.ContainerStatuses {
		for _, state := range []corev1.ContainerState{cs.State, cs.LastTerminationState} {
			if w := state.Waiting; w != nil {
				said = append(said, w.Reason, w.Message)
			}
			if e := state.Terminated; e != nil {
				said = append(said, e.Reason, e.Message)
			}
		}
	}
	l, err := c.api.List(ctx, api.Events, client.ListOptions{Namespace: "default"})
	if err != nil {
		return err.Error()
	}
	for _, o := range l.Items {
		if e := o.(*corev1.Event); e.InvolvedObject.Name == name {
			said = append(said, e.Reason, e.Message)
		}
	}
	return strings.Join(said, " ")
}

// begin runs a script in a pod of its own, until the test ends.
func begin(t *testing.T, c *cluster, name, script, more string) {
	t.Helper()
	b := aBadPod{name: name, container: fmt.Sprintf(`image: "shoal.local/busybox:1", command: [sh, -c, %q]%s`, script, more)}
	apply(t, b.manifest())
	running(t, c.api, name, 1, 30*time.Second)
}

// end deletes the pod, which must be gone soon.
func end(t *testing.T, c *cluster, name string, limit time.Duration) {
	t.Helper()
	shoal(t, "delete", "pod", name, "--wait=false")
	t.Logf("gone after %s", gone(t, c.api, name, limit).Round(time.Millisecond))
}

func forkBomb(t *testing.T, c *cluster) {
	begin(t, c, "forks", `b() { b | b & }; sleep 1; b; sleep 9999`, `, resources: {limits: {cpu: 300m}}`)
	o, err := c.api.Get(t.Context(), api.Pods, client.Key{Namespace: "default", Name: "forks"}, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := cgroupDir("pids", "peer-1", "pod"+string(o.(*corev1.Pod).UID))
	most := func() int64 {
		b, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		_, _ = fmt.Sscan(string(b), &n)
		return n
	}
	within(t, 30*time.Second, "it has as many as it may", func(context.Context) error {
		if n := most(); n < 290 {
			return fmt.Errorf("%d processes: %w", n, errNotYet)
		}
		return nil
	})
	if n := most(); n > 300 {
		t.Errorf("it has %d processes", n)
	}
	end(t, c, "forks", 20*time.Second)
}

func endlessLine(t *testing.T, c *cluster) {
	keeper := innardsOf("peer-1")[theKeeper]
	if len(keeper) != 1 {
		t.Fatalf("keepers %v", keeper)
	}
	begin(t, c, "prints", `dd if=/dev/zero bs=1048576 count=1024 2>/dev/null; echo; echo done; sleep 9999`, "")
	var biggest int64
	within(t, 50*time.Second, "it is done", func(ctx context.Context) error {
		biggest = max(biggest, field(t, fmt.Sprintf("/proc/%d/status", keeper[0]), "VmRSS:"))
		out, err := tryShoal(ctx, "logs", "prints", "--tail", "1")
		if err == nil && !strings.Contains(out, "done") {
			err = errNotYet
		}
		return err
	})
	if biggest > 128<<10 {
		t.Errorf("the keeper has taken %d KiB for it", biggest)
	}
	logs, err := filepath.Glob(filepath.Join(labPeers(t)[0].DataDir(), "pods/*/logs/app/*"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range logs {
		if info, err := os.Stat(f); err == nil {
			size += info.Size()
		}
	}
	t.Logf("the keeper took up to %d KiB, all logs are %d MiB", biggest, size>>20)
	if size > 128<<20 {
		t.Errorf("logs take %d bytes", size)
	}
	end(t, c, "prints", 20*time.Second)
}

func closedOutput(t *testing.T, c *cluster) {
	begin(t, c, "silent", `echo before; exec 1>&- 2>&-; while :; do sleep 1; done`, "")
	within(t, 10*time.Second, "what it said is kept", func(ctx context.Context) error {
		if out, err := tryShoal(ctx, "logs", "silent"); err != nil || !strings.Contains(out, "before") {
			return fmt.Errorf("%q, %w", out, err)
		}
		return nil
	})
	if out := shoal(t, "exec", "silent", "--", "echo", "hello"); !strings.Contains(out, "hello") {
		t.Errorf("exec says %q", out)
	}
	running(t, c.api, "silent", 1, time.Second)
	end(t, c, "silent", 20*time.Second)
}

func stubborn(t *testing.T, c *cluster) {
	begin(t, c, "stubborn", `trap "" TERM INT; while :; do sleep 1; done`, "")
	end(t, c, "stubborn", 10*time.Second) // its grace is one second
}

func evilImage(t *testing.T, c *cluster) {
	apply(t, aBadPod{name: "evil", container: `image: "bad.local/evil:1", command: [/bin/busybox, sleep, "9999"]`}.manifest())
	var said string
	within(t, 30*time.Second, "it runs, or is refused", func(ctx context.Context) error {
		said = everythingSaid(ctx, c, "evil")
		if strings.Contains(said, "Started container") || strings.Contains(said, "Failed") {
			return nil
		}
		return errNotYet
	})
	t.Log(said)
	if strings.Contains(said, "Started container") {
		for _, device := range []string{"/memory", "/disk"} {
			if out, err := tryShoal(t.Context(), "exec", "evil", "--", "/bin/busybox", "head", "-c", "1", device); err == nil || !strings.Contains(err.Error(), "not permitted") {
				t.Errorf("%s was opened: %q, %v", device, out, err)
			}
		}
	}
	for _, path := range escapes {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was written", path)
			_ = os.Remove(path)
		}
	}
	end(t, c, "evil", 20*time.Second)
}

// escapes are the files that the evil image tries to write.
var escapes = []string{"/tmp/shoal-evil-link", "/tmp/shoal-evil-dots", "/tmp/shoal-evil-absolute"}

// evilImages writes an archive of images that are no good.
func evilImages(t *testing.T) string {
	t.Helper()
	good, err := tarball.ImageFromPath(filepath.Join(repo(), "build/images/busybox.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	layered := func(fill func(w *tar.Writer) error) v1.Image {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		err := errors.Join(fill(w), w.Close())
		if err != nil {
			t.Fatal(err)
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(good, l)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	with := func(h *tar.Header, content []byte) v1.Image {
		return layered(func(w *tar.Writer) error {
			h.Size = int64(len(content))
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			_, err := w.Write(content)
			return err
		})
	}
	evil := layered(func(w *tar.Writer) error {
		for _, h := range []*tar.Header{
			{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/", Mode: 0o777},
			{Name: "out/tmp/shoal-evil-link", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "../../../../../../../../../../tmp/shoal-evil-dots", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "/tmp/shoal-evil-absolute", Typeflag: tar.TypeReg, Mode: 0o644},
			{Name: "memory", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1, Mode: 0o666},
			{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 0, Mode: 0o666},
		} {
			if err := w.WriteHeader(h); err != nil {
				return err
			}
		}
		return nil
	})
	config := func(img v1.Image, change func(*v1.ConfigFile)) v1.Image {
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		change(file)
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		return img
	}
	all := map[name.Reference]v1.Image{}
	for ref, img := range map[string]v1.Image{
		"bad.local/evil:1":   evil,
		"bad.local/nouser:1": config(good, func(f *v1.ConfigFile) { f.Config.User = "nobody-here" }),
		"bad.local/otherarch:1": config(with(&tar.Header{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755}, otherMachine()), func(f *v1.ConfigFile) {
			f.Config.Entrypoint = []string{"/app"}
		}),
	} {
		parsed, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		all[parsed] = img
	}
	path := filepath.Join(t.TempDir(), "evil.tar")
	if err := tarball.MultiRefWriteToFile(path, all); err != nil {
		t.Fatal(err)
	}
	return path
}

// otherMachine is the beginning of a program for a machine that this one is not.
func otherMachine() []byte {
	head := make([]byte, 4096)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA], head[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	head[16], head[18] = byte(elf.ET_EXEC), byte(elf.EM_S390)
	return head
}
