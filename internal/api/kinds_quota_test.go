package api

import "testing"

func TestPodTemplates(t *testing.T) {
	const good = `{metadata: {name: t}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}, {name: d, image: "j:1"}]}}}`
	testCreation(t, PodTemplates, good,
		rule{"containers are needed", `{template: {spec: {containers: null}}}`, []string{"template.spec.containers: Required value"}},
		rule{"labels are valid", `{template: {metadata: {labels: {a: "-"}}}}`, []string{"template.labels: Invalid value"}},
		rule{"no ephemeral containers", `{template: {spec: {ephemeralContainers: [{name: e, image: i}]}}}`, []string{"template.spec.ephemeralContainers: Forbidden"}})
	testUpdate(t, PodTemplates, "", good,
		rule{"everything may change", `{template: {spec: {containers: [{name: e, image: k}]}}}`, nil},
		rule{"but stays a template", `{template: {spec: {containers: null}}}`, []string{"template.spec.containers: Required value"}})
	testDefaults(t, PodTemplates, good, `{metadata: {generation: 1}, template: {spec: {restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler,
		terminationGracePeriodSeconds: 30, containers: [{imagePullPolicy: Always, terminationMessagePath: /dev/termination-log}, {imagePullPolicy: IfNotPresent}]}}}`)
	testCells(t, PodTemplates, good, "t", "c,d", "i,j:1", "a=b")
	testCells(t, PodTemplates, `{metadata: {name: t}}`, "t", "", "", "<none>")
}

func TestLimitRanges(t *testing.T) {
	const good = `{metadata: {name: l}, spec: {limits: [{type: Container, max: {cpu: "2"}, min: {cpu: "1"}}]}}`
	item := func(text string) string { return `{spec: {limits: [` + text + `]}}` }
	testCreation(t, LimitRanges, good,
		rule{"a type is known", item(`{type: Foo}`), []string{"spec.limits[0].type: Invalid value: \"Foo\": must be a standard limit type or fully qualified"}},
		rule{"or somebody's own", item(`{type: example.com/foo}`), nil},
		rule{"once", item(`{type: Pod}, {type: Pod}`), []string{"spec.limits[1].type: Duplicate value"}},
		rule{"a resource of containers", item(`{type: Container, max: {pods: "1"}}`), []string{
			"spec.limits[0].defaultRequest[pods]: Invalid value", "spec.limits[0].default[pods]: Invalid value", "spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers",
		}},
		rule{"the least is not more than the most", item(`{type: Pod, max: {cpu: "1"}, min: {cpu: "2"}}`), []string{"spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"}},
		rule{"pods have no defaults", item(`{type: Pod, default: {cpu: "1"}, defaultRequest: {cpu: "1"}}`), []string{"spec.limits[0].default: Forbidden", "spec.limits[0].defaultRequest: Forbidden"}},
		rule{"a default request is not more than the default", item(`{type: Container, default: {cpu: "1"}, defaultRequest: {cpu: "2"}}`), []string{"spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1"}},
		rule{"a default is between least and most", item(`{type: Container, max: {cpu: "2"}, min: {cpu: "1"}, default: {cpu: "3"}, defaultRequest: {cpu: "1"}}`), []string{"spec.limits[0].default[cpu]: Invalid value: \"2\": default value 3 is greater than max value 2"}},
		rule{"a ratio is at least one", item(`{type: Pod, maxLimitRequestRatio: {cpu: "0.5"}}`), []string{"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"}},
		rule{"a ratio can be reached", item(`{type: Pod, max: {cpu: "2"}, min: {cpu: "1"}, maxLimitRequestRatio: {cpu: "3"}}`), []string{"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000"}},
		rule{"devices are not shared", item(`{type: Container, default: {example.com/d: "2"}, defaultRequest: {example.com/d: "1"}}`), []string{"spec.limits[0].defaultRequest[example.com/d]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in example.com/d"}},
		rule{"claims are of storage", item(`{type: PersistentVolumeClaim}`), []string{"spec.limits[0].limits: Required value: either minimum or maximum storage value is required"}},
		rule{"of a size", item(`{type: PersistentVolumeClaim, max: {storage: 1Gi}}`), nil})
	testUpdate(t, LimitRanges, "", good,
		rule{"limits may change", item(`{type: Pod, max: {cpu: "9"}}`), nil},
		rule{"to good ones", item(`{type: Pod, max: {cpu: "1"}, min: {cpu: "2"}}`), []string{"spec.limits[0].min[cpu]: Invalid value"}})
	testDefaults(t, LimitRanges, `{spec: {limits: [{type: Container, max: {cpu: "2"}, min: {memory: 1Gi}}]}}`,
		`{spec: {limits: [{default: {cpu: "2"}, defaultRequest: {cpu: "2", memory: 1Gi}}]}}`)
	if decodedNew(t, LimitRanges, `{}`).GetName() == "" {
		t.Error("limits without a name get none")
	}
	testCells(t, LimitRanges, good, "l", "2020-09-13T12:26:40Z")
}

func TestResourceQuotas(t *testing.T) {
	const good = `{metadata: {name: q}, spec: {hard: {pods: "10", requests.cpu: "1"}}}`
	scope := func(text string) string {
		return `{spec: {hard: {pods: "1", requests.cpu: null}, scopeSelector: {matchExpressions: [` + text + `]}}}`
	}
	testCreation(t, ResourceQuotas, good,
		rule{"known resources", `{spec: {hard: {foo: "1"}}}`, []string{"spec.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota", "spec.hard[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified"}},
		rule{"counts of anything", `{spec: {hard: {count/widgets.example.com: "1", requests.example.com/gpu: "1"}}}`, nil},
		rule{"not negative", `{spec: {hard: {pods: "-1"}}}`, []string{"spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"}},
		rule{"whole pods", `{spec: {hard: {pods: "1.5"}}}`, []string{"spec.hard[pods]: Invalid value: \"1500m\": must be an integer"}},
		rule{"known scopes", `{spec: {scopes: [Foo]}}`, []string{"spec.scopes: Invalid value: [\"Foo\"]: unsupported scope"}},
		rule{"what a scope has", `{spec: {scopes: [BestEffort]}}`, []string{"spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"}},
		rule{"scopes that agree", `{spec: {scopes: [Terminating, NotTerminating]}}`, []string{"spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"}},
		rule{"a selector of known scopes", scope(`{scopeName: Foo, operator: Exists}`), []string{"spec.scopeSelector.matchExpressions.scopeName: Invalid value: \"Foo\": unsupported scope"}},
		rule{"some scopes only exist", scope(`{scopeName: Terminating, operator: In, values: [a]}`), []string{"spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists'"}},
		rule{"in what", scope(`{scopeName: PriorityClass, operator: In}`), []string{"spec.scopeSelector.matchExpressions.values: Required value: must be at least one value"}},
		rule{"existing has no values", scope(`{scopeName: PriorityClass, operator: Exists, values: [a]}`), []string{"spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value"}},
		rule{"known operators", scope(`{scopeName: PriorityClass, operator: Foo}`), []string{"spec.scopeSelector.matchExpressions.operator: Invalid value: \"Foo\": not a valid selector operator"}},
		rule{"status is not the client's", `{status: {hard: {foo: "-1"}}}`, nil})
	testUpdate(t, ResourceQuotas, "", good,
		rule{"amounts may change", `{spec: {hard: {pods: "11"}}}`, nil},
		rule{"scopes may not", `{spec: {scopes: [NotBestEffort]}}`, []string{"spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable"}})
	testUpdate(t, ResourceQuotas, "status", good,
		rule{"counted", `{status: {hard: {pods: "10"}, used: {pods: "1"}}}`, nil},
		rule{"not negative", `{status: {used: {pods: "-1"}}}`, []string{"status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0"}})
	testDefaults(t, ResourceQuotas, `{metadata: {name: q}, spec: {hard: {cpu: "0.1234"}}, status: {hard: {cpu: "1"}}}`, `{spec: {hard: {cpu: 124m}}, status: {hard: null}}`)
	testCells(t, ResourceQuotas, `{metadata: {name: q}, status: {hard: {pods: "10", limits.cpu: "2", cpu: "1"}, used: {pods: "3"}}}`, "q", "cpu: 0/1, pods: 3/10", "limits.cpu: 0/2", "60m")
}
