package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// How long a stream may stand still, as in Kubernetes.
const streamIdle = 4 * time.Hour

func (s *server) serveExec(w http.ResponseWriter, r *http.Request, p *corev1.Pod) error {
	q := r.URL.Query()
	name, err := container(p, q.Get("container"))
	if err != nil {
		return err
	}
	run, err := s.running(p, name)
	if err != nil {
		return err
	}
	command := q["command"]
	if len(command) == 0 {
		return badRequest("you must specify at least 1 command")
	}
	o, err := streams(r)
	if err != nil {
		return err
	}
	remotecommand.ServeExec(w, r, &session{s, p, run}, p.Name, string(p.UID), name, command, o,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

func (s *server) serveAttach(w http.ResponseWriter, r *http.Request, p *corev1.Pod) error {
	name, err := container(p, r.URL.Query().Get("container"))
	if err != nil {
		return err
	}
	run, err := s.running(p, name)
	if err != nil {
		return err
	}
	o, err := streams(r)
	if err != nil {
		return err
	}
	for _, c := range slices.Concat(p.Spec.Containers, api.EphemeralContainers(p)) {
		if c.Name == name {
			if o.TTY = c.TTY; c.TTY {
				o.Stderr = false
			}
			o.Stdin = o.Stdin && c.Stdin
		}
	}
	remotecommand.ServeAttach(w, r, &session{s, p, run}, p.Name, string(p.UID), name, o,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

// streams reads which streams are asked for: by their names in the API, or by those that kubelets use.
func streams(r *http.Request) (*remotecommand.Options, error) {
	q := r.URL.Query()
	on := func(names ...string) bool {
		for _, n := range names {
			if v, err := strconv.ParseBool(q.Get(n)); err == nil && v {
				return true
			}
		}
		return false
	}
	o := &remotecommand.Options{
		Stdin: on("stdin", remotecommand.ExecStdinParam), Stdout: on("stdout", remotecommand.ExecStdoutParam),
		Stderr: on("stderr", remotecommand.ExecStderrParam), TTY: on("tty"),
	}
	if o.TTY {
		o.Stderr = false // a terminal has one output
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, badRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

// session runs commands in one run of a container for the stream protocols.
type session struct {
	s   *server
	pod *corev1.Pod
	run runtime.Container
}

// ExecInContainer implements remotecommand.Executor.
func (x *session) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return x.exec(ctx, runtime.ExecConfig{Command: cmd, TTY: tty}, in, out, errs, resize)
}

// AttachContainer implements remotecommand.Attacher.
func (x *session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return x.exec(ctx, runtime.ExecConfig{Attach: true, TTY: tty}, in, out, errs, resize)
}

func (x *session) exec(ctx context.Context, c runtime.ExecConfig, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Typed nils must not look like streams.
	if in != nil {
		c.Stdin = in
	}
	if out != nil {
		c.Stdout = out
	}
	if errs != nil {
		c.Stderr = errs
	}
	var sizes sync.WaitGroup
	if resize != nil {
		to := make(chan runtime.TerminalSize)
		c.Resize = to
		sizes.Go(func() {
			defer close(to)
			for {
				select {
				case size, ok := <-resize:
					if !ok {
						return
					}
					select {
					case to <- runtime.TerminalSize{Width: size.Width, Height: size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	code, err := x.s.cfg.Runtime.Exec(ctx, x.pod.UID, x.run.ID, c)
	cancel()
	sizes.Wait()
	return ended(context.WithoutCancel(ctx), code, err)
}

func (s *server) servePortForward(w http.ResponseWriter, r *http.Request, p *corev1.Pod) error {
	_, sandbox, _ := s.cfg.Pods.Containers(p.UID)
	if !sandbox.Running {
		return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, "pod %q is not running", p.Name)
	}
	o, err := portforward.NewV4Options(r)
	if err != nil {
		return badRequest("%v", err)
	}
	portforward.ServePortForward(w, r, &forwarder{r.Context(), sandbox.NetNS}, p.Name, string(p.UID), o,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
	return nil
}

// forwarder connects to ports inside a pod's network.
type forwarder struct {
	ctx   context.Context // the request's: the protocol gives none of its own
	netns string          // empty for the machine's
}

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := dialIn(f.ctx, f.netns, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(f.ctx, func() { _ = conn.Close() })
	defer stop()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(conn, stream)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	_, err = io.Copy(stream, conn)
	_ = stream.Close() // the container has said all it will; the other direction ends with it
	up.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
