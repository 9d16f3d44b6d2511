package api

import (
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// serveComponents answers componentstatuses, an old way to ask how a control plane is. The names are those that its readers know:
// Shoal's Master is scheduler and controller-manager in one, and etcd-0 is the store, which is well when a majority answers.
func (s *Server) serveComponents(w http.ResponseWriter, r *request) {
	switch {
	case r.Subresource != "" || r.Namespace != "":
		s.fail(w, r, notServed())
		return
	case r.Verb != "get" && r.Verb != "list":
		s.fail(w, r, notAllowed())
		return
	}
	if !s.negotiated(w, r) {
		return
	}
	warn(w, "v1 ComponentStatus is deprecated in v1.19+")
	all := s.components(r)
	if r.Name != "" {
		all = slices.DeleteFunc(all, func(c corev1.ComponentStatus) bool { return c.Name != r.Name })
		if len(all) == 0 {
			s.fail(w, r, apierrors.NewNotFound(schema.GroupResource{Resource: r.Resource}, r.Name))
			return
		}
	}
	switch {
	case r.format.as == asTable:
		s.writeObject(w, r, r.format, http.StatusOK, componentTable(all, r.format.version))
	case r.Name != "":
		s.writeObject(w, r, r.format.plain(), http.StatusOK, &all[0])
	default:
		s.writeObject(w, r, r.format.plain(), http.StatusOK, &corev1.ComponentStatusList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ComponentStatusList"}, Items: all,
		})
	}
}

func (s *Server) components(r *request) []corev1.ComponentStatus {
	master, store := "", ""
	if _, ok := s.cfg.Peers.Master(); !ok {
		master = "there is no Master"
	}
	if err := s.reg.Reach(r.Context()); err != nil {
		store = err.Error()
	}
	one := func(name, problem string) corev1.ComponentStatus {
		c := corev1.ComponentStatus{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ComponentStatus"}, ObjectMeta: metav1.ObjectMeta{Name: name},
			Conditions: []corev1.ComponentCondition{{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}},
		}
		if problem != "" {
			c.Conditions[0].Status, c.Conditions[0].Message, c.Conditions[0].Error = corev1.ConditionFalse, "", problem
		}
		return c
	}
	return []corev1.ComponentStatus{one("controller-manager", master), one("etcd-0", store), one("scheduler", master)}
}

func componentTable(all []corev1.ComponentStatus, version string) *metav1.Table {
	column := func(name, what string) metav1.TableColumnDefinition {
		return metav1.TableColumnDefinition{Name: name, Type: "string", Description: what}
	}
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "Table"},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
			column("Status", "Status of the component conditions"), column("Message", "Message of the component conditions"),
			column("Error", "Error of the component conditions"),
		},
	}
	for i := range all {
		c, said := &all[i], "Unhealthy"
		if c.Conditions[0].Status == corev1.ConditionTrue {
			said = "Healthy"
		}
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells: []any{c.Name, said, c.Conditions[0].Message, c.Conditions[0].Error}, Object: runtime.RawExtension{Object: c},
		})
	}
	return t
}
