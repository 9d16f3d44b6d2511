package api

import (
	"bytes"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
)

// deleteOptions reads them from the body or, without one, from the query.
func (s *Server) deleteOptions(w http.ResponseWriter, r *request) (client.DeleteOptions, error) {
	var out client.DeleteOptions
	b, err := r.body(w)
	if err != nil {
		return out, err
	}
	o := &metav1.DeleteOptions{}
	if len(b) > 0 {
		if err := decodeDeleteOptions(b, r.Header.Get("Content-Type"), o); err != nil {
			return out, err
		}
	} else if err := r.queryDeleteOptions(o); err != nil {
		return out, err
	}
	o.DryRun = append(o.DryRun, r.query()["dryRun"]...)
	if errs := validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return out, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	out = client.DeleteOptions{
		GracePeriodSeconds: o.GracePeriodSeconds, Preconditions: o.Preconditions, Propagation: o.PropagationPolicy, DryRun: len(o.DryRun) > 0,
	}
	if o.OrphanDependents != nil {
		p := metav1.DeletePropagationBackground
		if *o.OrphanDependents {
			p = metav1.DeletePropagationOrphan
		}
		out.Propagation = &p
	}
	return out, nil
}

// decodeDeleteOptions reads DeleteOptions of any group: clients send that of the object, v1, or meta.k8s.io/v1.
func decodeDeleteOptions(b []byte, media string, o *metav1.DeleteOptions) error {
	kind := ""
	if rest, ok := bytes.CutPrefix(b, protoMagic); ok {
		var u runtime.Unknown
		if err := u.Unmarshal(rest); err != nil {
			return badRequest("the body is no protobuf object: %v", err)
		}
		if err := o.Unmarshal(u.Raw); err != nil {
			return badRequest("the body is no DeleteOptions: %v", err)
		}
		kind = u.Kind
	} else {
		if err := shoalapi.CheckYAML(b); err != nil {
			return err
		}
		if err := yaml.Unmarshal(b, o); err != nil { // JSON is YAML
			return badRequest("the body (%s) is no DeleteOptions: %v", media, err)
		}
		kind = o.Kind
	}
	if kind != "" && kind != "DeleteOptions" {
		return badRequest("%s cannot be handled as a DeleteOptions", kind)
	}
	return nil
}

func (r *request) queryDeleteOptions(o *metav1.DeleteOptions) error {
	q := r.query()
	if v := q.Get("gracePeriodSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return badRequest("%v", err)
		}
		o.GracePeriodSeconds = &n
	}
	if v := q.Get("propagationPolicy"); v != "" {
		p := metav1.DeletionPropagation(v)
		o.PropagationPolicy = &p
	}
	if _, ok := q["orphanDependents"]; ok {
		v := boolParam(q, "orphanDependents")
		o.OrphanDependents = &v
	}
	if v := q.Get("preconditions.uid"); v != "" {
		uid := types.UID(v)
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	return nil
}

func (s *Server) delete(w http.ResponseWriter, r *request) {
	o, err := s.deleteOptions(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	e, gone, err := s.reg.DeleteEntry(r.context(), r.kind, r.key(), o)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if gone && !showsDeleted(r) {
		s.settle(w, r, e)
		s.writeObject(w, r, r.format.plain(), http.StatusOK, &metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusSuccess,
			Details:  &metav1.StatusDetails{Name: r.Name, Group: r.Group, Kind: r.Resource, UID: e.Object.GetUID()},
		})
		return
	}
	s.written(w, r, http.StatusOK, e)
}

// showsDeleted reports whether a deletion answers with the object rather than with a Status.
func showsDeleted(r *request) bool {
	switch r.Group {
	case "":
		switch r.Resource {
		case "pods", "services", "serviceaccounts", "podtemplates", "persistentvolumes", "persistentvolumeclaims", "resourcequotas":
			return true
		}
	case "storage.k8s.io":
		return r.Resource != "csistoragecapacities"
	}
	return false
}

// deleteCollection deletes what a list selects, one by one; what others delete meanwhile is not an error.
func (s *Server) deleteCollection(w http.ResponseWriter, r *request) {
	lo, _, err := r.listOptions()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o, err := s.deleteOptions(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	es, err := s.reg.ListEntries(r.context(), r.kind, lo)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := &registry.Entries{Rev: es.Rev}
	for _, e := range es.Items {
		last, _, err := s.reg.DeleteEntry(r.context(), r.kind, e.Key, o)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			s.fail(w, r, err)
			return
		}
		out.Items = append(out.Items, last)
		out.Rev = max(out.Rev, last.Rev)
	}
	if len(out.Items) > 0 {
		s.settle(w, r, &registry.Entry{Rev: out.Rev})
	}
	s.writeList(w, r, out)
}
