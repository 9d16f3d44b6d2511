package registry

import (
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/api/custom"
)

// This file serves what CustomResourceDefinitions define. Only pump.go calls it, before readers here see the definitions
// themselves: who sees that a kind is established can use it.

// defined is the rows of one definition.
type defined struct {
	of    definitionState
	kinds []*api.Kind
}

// definitionState is all that the rows depend on.
type definitionState struct {
	uid          types.UID
	generation   int64
	plural, kind string // as accepted
	terminating  bool
}

// redefine serves the kinds of the definitions in f as they are once steps are applied, with their objects as they are at rev.
func (r *Registry) redefine(f *feed, steps []step, rev store.Rev) error {
	rows, changed := map[string]defined{}, false
	var custom []*api.Kind
	for _, d := range definitions(f, steps) {
		row, ok := r.rowsOf(d)
		if !ok {
			continue
		}
		rows[d.Name] = row
		changed = changed || r.defined[d.Name].of != row.of
		custom = append(custom, row.kinds...)
	}
	changed = changed || len(rows) != len(r.defined)
	r.defined = rows
	if !changed {
		return nil
	}
	now := r.serving.Load()
	next := &serving{table: r.live.Next(custom), feeds: map[*api.Kind]*feed{}, byPath: map[string][]*feed{}}
	for _, k := range next.table.Kinds() {
		had := now.feeds[k]
		if had == nil {
			had = newFeed(k, window{r.cfg.Window, r.cfg.WindowBytes})
			if err := r.load(had, rev); err != nil {
				return err
			}
		}
		next.add(k, had)
	}
	r.serving.Store(next)
	r.live.Set(next.table)
	r.apply.forget(next.feeds)
	for k, f := range now.feeds {
		if next.feeds[k] == nil {
			f.end(rev)
		}
	}
	return nil
}

// definitions returns those of a feed that are established once steps are applied, by name.
func definitions(f *feed, steps []step) []*apiextensionsv1.CustomResourceDefinition {
	all := map[string]*Entry{}
	f.mu.RLock()
	f.tree.Ascend(func(e *Entry) bool {
		all[e.Key.Name] = e
		return true
	})
	f.mu.RUnlock()
	for _, s := range steps {
		all[s.key.Name] = s.now
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, e := range all {
		if e == nil {
			continue
		}
		if d := e.Object.(*apiextensionsv1.CustomResourceDefinition); api.CRDEstablished(d) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *apiextensionsv1.CustomResourceDefinition) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// rowsOf returns the rows of a definition, those it had when nothing changed; false when it cannot be served.
func (r *Registry) rowsOf(d *apiextensionsv1.CustomResourceDefinition) (defined, bool) {
	names := &d.Status.AcceptedNames
	of := definitionState{d.UID, d.Generation, names.Plural, names.Kind, d.DeletionTimestamp != nil}
	if had := r.defined[d.Name]; had.of == of {
		return had, true
	}
	for _, k := range r.cfg.Kinds.Kinds() {
		if k.Group == d.Spec.Group && k.Resource == names.Plural {
			r.log.Warn("custom resource definition hides a built-in kind", "name", d.Name)
			return defined{}, false
		}
	}
	kinds, err := custom.Kinds(d)
	if err != nil {
		r.log.Warn("custom resource definition cannot be served", "name", d.Name, "err", err)
		return defined{}, false
	}
	return defined{of, kinds}, true
}
