package openapi

// param is a parameter of an operation.
type param struct {
	name, in, typ, doc string
}

var (
	nameParam      = param{"name", "path", "string", "name of the object"}
	namespaceParam = param{"namespace", "path", "string", "namespace of the object"}
	prettyParam    = param{"pretty", "query", "string", "whether the answer is indented"}
	dryRunParam    = param{"dryRun", "query", "string", "All: go through every check but store nothing"}
	gracePeriod    = param{"gracePeriodSeconds", "query", "integer", "seconds until the object is deleted, 0 for at once; the kind's default if absent"}
	orphanParam    = param{"orphanDependents", "query", "boolean", "whether dependents stay; use propagationPolicy instead"}
	propagation    = param{"propagationPolicy", "query", "string", "what becomes of dependents: Orphan, Background or Foreground"}
	selectorParams = []param{
		{"continue", "query", "string", "where the list before this one ended"},
		{"fieldSelector", "query", "string", "selects objects by their fields"},
		{"labelSelector", "query", "string", "selects objects by their labels"},
		{"limit", "query", "integer", "the most objects to answer with"},
		{"resourceVersion", "query", "string", "which version of the data the answer may be from"},
		{"resourceVersionMatch", "query", "string", "how resourceVersion is meant: Exact or NotOlderThan"},
		{"sendInitialEvents", "query", "boolean", "whether a watch begins with what exists"},
		{"timeoutSeconds", "query", "integer", "after how long the answer ends"},
	}
	watchParams = []param{
		{"allowWatchBookmarks", "query", "boolean", "whether a watch may have BOOKMARK events"},
		{"watch", "query", "boolean", "stay and send each change"},
	}
	writeParams = []param{
		dryRunParam,
		{"fieldManager", "query", "string", "who is noted as the owner of the fields that change"},
		{"fieldValidation", "query", "string", "what unknown and duplicate fields mean: Ignore, Warn or Strict"},
	}
	forceParam = param{"force", "query", "boolean", "take fields over from other managers; for apply patches only"}
)

// paramsOf returns the query parameters of an action.
func paramsOf(action string) []param {
	switch action {
	case "list":
		return append(selectorParams[:len(selectorParams):len(selectorParams)], watchParams...)
	case "post", "put":
		return writeParams
	case "patch":
		return append(writeParams[:len(writeParams):len(writeParams)], forceParam)
	case "delete":
		return []param{dryRunParam, gracePeriod, orphanParam, propagation}
	case "deletecollection":
		return append(selectorParams[:len(selectorParams):len(selectorParams)], dryRunParam, gracePeriod, orphanParam, propagation)
	}
	return nil
}

// objects writes parameters in a dialect.
func (d dialect) params(list []param) []any {
	out := make([]any, 0, len(list)+1)
	for _, p := range list {
		o := object{{"description", p.doc}, {"in", p.in}, {"name", p.name}}
		if p.in == "path" {
			o.add("required", true)
		}
		if d == v2 {
			o.add("type", p.typ)
			o.add("uniqueItems", true)
		} else {
			o.add("schema", object{{"type", p.typ}, {"uniqueItems", true}})
		}
		out = append(out, o)
	}
	return out
}
