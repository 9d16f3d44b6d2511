package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/internal/client"
	"shoal/master/registry"
)

// serveStream answers log, exec, attach and portforward: it finds the pod and leaves the conversation to the pod's
// peer, without passing the Master.
func (s *Server) serveStream(w http.ResponseWriter, r *request) {
	var ok bool
	if r.format, ok = negotiate(r.Header.Get("Accept"), objectFormats); !ok {
		r.format = format{media: mediaJSON} // logs are text, whatever is accepted
	}
	if !s.allows(r) && !(r.Subresource == "log" && r.Verb == "get") {
		s.fail(w, r, notAllowed())
		return
	}
	var pod *corev1.Pod
	err := s.read(w, r, "", func(ctx context.Context, rv string) error {
		e, err := s.reg.GetEntry(ctx, r.kind, r.key(), client.GetOptions{ResourceVersion: rv})
		if err == nil {
			pod = e.Object.(*corev1.Pod)
		}
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.checkStream(r, pod); err != nil {
		s.fail(w, r, err)
		return
	}
	if pod.Spec.NodeName == "" {
		if r.Subresource == "log" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		s.fail(w, r, badRequest("pod %s does not have a host assigned", pod.Name))
		return
	}
	if s.cfg.Streams == nil {
		s.fail(w, r, registry.Unavailable("this peer cannot reach pods"))
		return
	}
	r.turns.leave()
	s.cfg.Streams.ServePod(w, r.WithContext(r.context()), pod.Spec.NodeName, pod, r.Subresource)
}

// checkStream finds the mistakes that need no pod's peer: above all, a container that is not named or does not exist.
func (s *Server) checkStream(r *request, pod *corev1.Pod) error {
	if r.Subresource == "portforward" {
		return nil
	}
	q := r.query()
	name := q.Get("container")
	names := containerNames(pod)
	switch {
	case name == "" && len(pod.Spec.Containers) != 1:
		if d := pod.Annotations["kubectl.kubernetes.io/default-container"]; d != "" {
			q.Set("container", d)
			r.URL.RawQuery = q.Encode()
			break
		}
		return badRequest("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
	case name == "":
		q.Set("container", pod.Spec.Containers[0].Name)
		r.URL.RawQuery = q.Encode()
	default:
		found := false
		for _, n := range names {
			found = found || n == name
		}
		if !found {
			return badRequest("container %s is not valid for pod %s", name, pod.Name)
		}
	}
	if r.Subresource == "log" {
		return s.checkLog(r, pod)
	}
	return nil
}

func containerNames(pod *corev1.Pod) []string {
	var out []string
	for _, c := range pod.Spec.Containers {
		out = append(out, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		out = append(out, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		out = append(out, c.Name)
	}
	return out
}

// checkLog validates the query of a log request.
func (s *Server) checkLog(r *request, pod *corev1.Pod) error {
	o := &corev1.PodLogOptions{}
	if err := s.codecs.Parameters.DecodeParameters(r.query(), corev1.SchemeGroupVersion, o); err != nil {
		return badRequest("%v", err)
	}
	var errs field.ErrorList
	negative := func(name string, v *int64, least int64) {
		if v != nil && *v < least {
			errs = append(errs, field.Invalid(field.NewPath(name), *v, fmt.Sprintf("must be greater than or equal to %d", least)))
		}
	}
	negative("tailLines", o.TailLines, 0)
	negative("limitBytes", o.LimitBytes, 1)
	negative("sinceSeconds", o.SinceSeconds, 1)
	if o.SinceSeconds != nil && o.SinceTime != nil {
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, pod.Name, errs)
	}
	return nil
}
