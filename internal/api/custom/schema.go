package custom

import (
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
)

// prune drops the fields that the schema does not have and returns them.
func (d *definition) prune(o api.Object) []string {
	return pruning.PruneWithOptions(content(o), d.schema, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

// fill sets the schema's defaults.
func (d *definition) fill(o api.Object) {
	fill(content(o), d.schema)
}

// fill sets what is missing, or null where that is not allowed, to its default; a null that has none goes, as if it had not been sent.
func fill(v any, s *structuralschema.Structural) {
	if s == nil {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for name := range s.Properties {
			p := s.Properties[name]
			value, there := v[name]
			switch null := there && value == nil && !p.Nullable; {
			case (!there || null) && p.Default.Object != nil:
				v[name] = runtime.DeepCopyJSONValue(p.Default.Object)
			case null:
				delete(v, name)
			}
		}
		for name, value := range v {
			if p, ok := s.Properties[name]; ok {
				fill(value, &p)
			} else if s.AdditionalProperties != nil {
				if more := s.AdditionalProperties.Structural; more != nil && value == nil && !more.Nullable && more.Default.Object != nil {
					v[name] = runtime.DeepCopyJSONValue(more.Default.Object)
				} else {
					fill(value, more)
				}
			}
		}
	case []any:
		for i := range v {
			if v[i] == nil && s.Items != nil && !s.Items.Nullable && s.Items.Default.Object != nil {
				v[i] = runtime.DeepCopyJSONValue(s.Items.Default.Object)
			}
			fill(v[i], s.Items)
		}
	}
}
