package api

import "testing"

func TestRecordedDefaultsOfWorkloads(t *testing.T) {
	agreement(t, "default-workloads", nil, 100)
}

func TestRecordedValidationOfWorkloads(t *testing.T) {
	const (
		label    = "the name became part of its pods' host names and must fit there"
		template = "its template was not checked then"
		unknown  = "the field did not exist then and was dropped"
		each     = "each field is named now, not the spec as a whole"
	)
	agreement(t, "validation-workloads", map[string]string{
		"invalid-statefulset/meta-name-64":      label,
		"invalid-statefulset/meta-name-dot":     label,
		"invalid-statefulset/spec-missing":      template,
		"invalid-statefulset/template-missing":  template,
		"invalid-statefulset/container-missing": template,
		"invalid-statefulset/minready":          unknown,
		"invalid-job/mode":                      unknown,
		"immutable-job/mode":                    unknown,
		"immutable-statefulset/servicename":     each,
		"immutable-statefulset/pmp":             each,
		"immutable-statefulset/claims":          each,
		"immutable-statefulset/selector":        each,
		"invalid-daemonset/maxunavail-0":        "there was no surge then that could make up for it",
		"invalid-job/meta-name-64":              "the labels that a job without labels gets are checked, too, here",
	}, 88)
}

func TestRecordedTablesOfWorkloads(t *testing.T) {
	const (
		status = "the column Status came later"
		zone   = "the column Timezone came later"
	)
	agreement(t, "table-workloads", map[string]string{
		"table-workloads/job-table":      status,
		"table-workloads/job-done":       "a job has to say now that its success criteria are met before it is complete",
		"table-workloads/job-table-done": status,
		"table-workloads/job2-table":     status,
		"table-workloads/cj-table":       zone,
	}, 85)
}
