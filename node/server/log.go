package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// logOptions are the query of a log request.
type logOptions struct {
	container  string
	follow     bool
	previous   bool
	timestamps bool
	since      time.Time // zero: from the beginning
	tail       int64     // lines; negative: all
	limit      int64     // bytes; negative: all
	stream     string    // stdout, stderr, or empty for both
}

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{container: q.Get("container"), tail: -1, limit: -1}
	for name, at := range map[string]*bool{"follow": &o.follow, "previous": &o.previous, "timestamps": &o.timestamps} {
		v := q.Get(name)
		if v == "" {
			if q.Has(name) {
				*at = true
			}
			continue
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return o, badRequest("%s: %q is neither true nor false", name, v)
		}
		*at = b
	}
	number := func(name string, least int64) (int64, bool, error) {
		v := q.Get(name)
		if v == "" {
			return 0, false, nil
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least {
			return 0, false, badRequest("%s: %q is not a number from %d on", name, v, least)
		}
		return n, true, nil
	}
	if n, ok, err := number("tailLines", 0); err != nil {
		return o, err
	} else if ok {
		o.tail = n
	}
	if n, ok, err := number("limitBytes", 1); err != nil {
		return o, err
	} else if ok {
		o.limit = n
	}
	seconds, ok, err := number("sinceSeconds", 1)
	if err != nil {
		return o, err
	}
	if ok {
		o.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		if ok {
			return o, badRequest("at most one of sinceTime or sinceSeconds may be specified")
		}
		if o.since, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return o, badRequest("sinceTime: %v", err)
		}
	}
	switch v := cmp.Or(q.Get("stream"), corev1.LogStreamAll); v {
	case corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		o.stream = "stdout"
	case corev1.LogStreamStderr:
		o.stream = "stderr"
	default:
		return o, badRequest("stream: %q is none of All, Stdout, Stderr", v)
	}
	return o, nil
}

func (s *server) serveLog(w http.ResponseWriter, r *http.Request, p *corev1.Pod) error {
	o, err := parseLogOptions(r.URL.Query(), s.cfg.Now())
	if err != nil {
		return err
	}
	name, err := container(p, o.container)
	if err != nil {
		return err
	}
	attempt, err := s.attempt(p, name, o.previous)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	out := newCopier(w, o)
	defer out.close()
	path := s.cfg.Pods.LogPath(p.UID, name, attempt)
	if !o.follow {
		err = out.catchUp(path)
	} else {
		err = s.followLog(r.Context(), p, name, attempt, path, out, flush)
	}
	if err != nil && r.Context().Err() == nil {
		// The answer has begun: all that is left is to break it off.
		s.log.Debug("log broken off", "pod", p.Name, "ns", p.Namespace, "container", name, "err", err)
		fmt.Fprintf(w, "error: %v\n", err)
	}
	return nil
}

// attempt returns the run whose log is asked for.
func (s *server) attempt(p *corev1.Pod, name string, previous bool) (int, error) {
	all := s.cfg.Pods.Attempts(p.UID, name)
	if len(all) == 0 {
		if previous {
			return 0, badRequest("previous terminated container %q in pod %q not found", name, p.Name)
		}
		reason := "ContainerCreating"
		if st := statusOf(p, name); st != nil && st.State.Waiting != nil {
			reason = st.State.Waiting.Reason
		}
		return 0, badRequest("container %q in pod %q is waiting to start: %s", name, p.Name, reason)
	}
	if !previous {
		return all[0], nil
	}
	// What waits to run again has its newest run behind it.
	if st := statusOf(p, name); st != nil && st.State.Waiting != nil && st.LastTerminationState.Terminated != nil {
		return all[0], nil
	}
	if len(all) < 2 {
		return 0, badRequest("previous terminated container %q in pod %q not found", name, p.Name)
	}
	return all[1], nil
}

func statusOf(p *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// drained is how long a log must be quiet after its container's end to be taken as complete: the keeper writes what was
// left in the pipes.
const drained = 100 * time.Millisecond

// followLog copies the log as it grows, until the run is over.
func (s *server) followLog(ctx context.Context, p *corev1.Pod, name string, attempt int, path string, out *copier, flush func() error) error {
	grown, stop, err := watchFile(path)
	if err != nil {
		return err
	}
	defer stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	quiet.Stop()
	for {
		runs, _, changed := s.cfg.Pods.Containers(p.UID)
		if err := out.catchUp(path); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		if out.full() {
			return nil
		}
		if over(runs, name, attempt) {
			changed = nil
			quiet.Reset(drained)
		}
		select {
		case _, ok := <-grown:
			if !ok {
				return nil
			}
		case <-changed:
		case <-quiet.C:
			return out.catchUp(path)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func over(runs []runtime.Container, name string, attempt int) bool {
	for _, r := range runs {
		if r.Name == name && r.Attempt == attempt {
			return r.State == runtime.Exited
		}
	}
	return true
}
