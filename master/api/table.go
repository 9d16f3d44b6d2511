package api

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/master/registry"
)

// table shows entries as rows of the kind's columns.
func (s *Server) table(r *request, items []*registry.Entry, resourceVersion string, headers bool) (*metav1.Table, error) {
	include := metav1.IncludeObjectPolicy(r.query().Get("includeObject"))
	switch include {
	case "":
		include = metav1.IncludeMetadata
	case metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject:
	default:
		return nil, badRequest("unrecognized includeObject value: %q", include)
	}
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + r.format.version, Kind: "Table"},
		ListMeta: metav1.ListMeta{ResourceVersion: resourceVersion},
		Rows:     make([]metav1.TableRow, 0, len(items)),
	}
	columns := r.kind.Columns
	if headers {
		if t.ColumnDefinitions = columns; len(columns) == 0 {
			t.ColumnDefinitions = []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name"}}
		}
	}
	now := s.cfg.Now()
	for _, e := range items {
		row := metav1.TableRow{}
		if len(columns) == 0 || r.kind.Cells == nil {
			row.Cells = []any{e.Key.Name}
		} else {
			row.Cells = r.kind.Cells(e.Object, now)
		}
		if r.kind.RowConditions != nil {
			row.Conditions = r.kind.RowConditions(e.Object)
		}
		raw, err := rowObject(e, include, r.format.version)
		if err != nil {
			return nil, err
		}
		row.Object = raw
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func rowObject(e *registry.Entry, include metav1.IncludeObjectPolicy, version string) (runtime.RawExtension, error) {
	switch include {
	case metav1.IncludeNone:
		return runtime.RawExtension{}, nil
	case metav1.IncludeObject:
		b, err := e.JSON()
		return runtime.RawExtension{Raw: b}, err
	}
	b, err := json.Marshal(partial(e, version))
	return runtime.RawExtension{Raw: b}, err
}
