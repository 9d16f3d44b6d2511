package api

import "slices"

// withoutNewerColumns removes from a table the columns that were added to Kubernetes since the recording, so that the
// others are compared.
func withoutNewerColumns(want, got any) {
	recorded, _ := want.(map[string]any)
	table, _ := got.(map[string]any)
	if table["kind"] != "Table" {
		return
	}
	old, _ := recorded["columnDefinitions"].([]any)
	columns, _ := table["columnDefinitions"].([]any)
	for i := len(columns) - 1; i >= 0; i-- {
		name := columns[i].(map[string]any)["name"]
		newer := name == "VolumeAttributesClass" || name == "PreemptionPolicy"
		if !newer || slices.ContainsFunc(old, func(c any) bool { return c.(map[string]any)["name"] == name }) {
			continue
		}
		columns = slices.Delete(columns, i, i+1)
		rows, _ := table["rows"].([]any)
		for _, r := range rows {
			row := r.(map[string]any)
			row["cells"] = slices.Delete(row["cells"].([]any), i, i+1)
		}
	}
	table["columnDefinitions"] = columns
}
