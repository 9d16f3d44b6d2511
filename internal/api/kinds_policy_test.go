package api

import "testing"

func TestPriorityClasses(t *testing.T) {
	const good = `{metadata: {name: p}, value: 1000}`
	reserved := "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	testCreation(t, PriorityClasses, good,
		rule{"users' are below the system's", `{value: 1000000001}`, []string{"value: Forbidden: maximum allowed value of a user defined priority is 1000000000"}},
		rule{"may be negative", `{value: -5}`, nil},
		rule{"the system's name", `{metadata: {name: system-x}}`, []string{reserved + "system-x is not a known system priority class"}},
		rule{"has the system's value", `{metadata: {name: system-node-critical}}`, []string{reserved + "value of system-node-critical PriorityClass must be 2000001000"}},
		rule{"and is no default", `{metadata: {name: system-cluster-critical}, value: 2000000000, globalDefault: true}`, []string{reserved + "globalDefault of system-cluster-critical PriorityClass must be false"}},
		rule{"the system's class", `{metadata: {name: system-cluster-critical}, value: 2000000000}`, nil},
		rule{"a known policy", `{preemptionPolicy: Foo}`, []string{`preemptionPolicy: Unsupported value: "Foo": supported values: "PreemptLowerPriority", "Never"`}})
	testUpdate(t, PriorityClasses, "", good,
		rule{"the value stays", `{value: 1001}`, []string{"value: Forbidden: may not be changed in an update."}},
		rule{"the policy stays", `{preemptionPolicy: Never}`, []string{"preemptionPolicy: Invalid value: \"Never\": field is immutable"}},
		rule{"the rest may change", `{description: d, globalDefault: true}`, nil})
	testDefaults(t, PriorityClasses, good, `{metadata: {generation: 1}, preemptionPolicy: PreemptLowerPriority}`)
	testCells(t, PriorityClasses, `{metadata: {name: p}, value: 7, globalDefault: true, preemptionPolicy: Never}`, "p", int64(7), true, "60m", "Never")
}

func TestPodDisruptionBudgets(t *testing.T) {
	const good = `{metadata: {name: b}, spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}}`
	testCreation(t, PodDisruptionBudgets, good,
		rule{"a name is a path segment", `{metadata: {name: "A_b"}}`, nil},
		rule{"one of two", `{spec: {maxUnavailable: 1}}`, []string{"spec: Invalid value"}},
		rule{"a part of all", `{spec: {minAvailable: "101%"}}`, []string{"spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"}},
		rule{"a part", `{spec: {minAvailable: x}}`, []string{"spec.minAvailable: Invalid value: \"x\": a valid percent string"}},
		rule{"a number", `{spec: {minAvailable: null, maxUnavailable: -1}}`, []string{"spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"}},
		rule{"a selector", `{spec: {selector: {matchLabels: {"a b": c}}}}`, []string{"spec.selector.matchLabels: Invalid value"}},
		rule{"a policy", `{spec: {unhealthyPodEvictionPolicy: Foo}}`, []string{`spec.unhealthyPodEvictionPolicy: Unsupported value: "Foo": supported values: "AlwaysAllow", "IfHealthyBudget"`}},
		rule{"nothing at all", `{spec: null}`, nil})
	testUpdate(t, PodDisruptionBudgets, "", good,
		rule{"everything may change", `{spec: {minAvailable: null, maxUnavailable: 20%, selector: {matchLabels: {c: d}}}}`, nil},
		rule{"to good values", `{spec: {minAvailable: -1}}`, []string{"spec.minAvailable: Invalid value"}})
	testUpdate(t, PodDisruptionBudgets, "status", good,
		rule{"no negative counts", `{status: {disruptionsAllowed: -1, currentHealthy: -1, desiredHealthy: -1, expectedPods: -1}}`, []string{
			"status.disruptionsAllowed: Invalid value: -1", "status.currentHealthy: Invalid value: -1", "status.desiredHealthy: Invalid value: -1", "status.expectedPods: Invalid value: -1",
		}},
		rule{"conditions", `{status: {conditions: [{type: A}]}}`, []string{"status.conditions[0].status: Required value", "status.conditions[0].lastTransitionTime: Required value", "status.conditions[0].reason: Required value"}},
		rule{"counted", `{status: {disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2}}`, nil})
	testDefaults(t, PodDisruptionBudgets, `{metadata: {name: b}, spec: {selector: {matchLabels: {a: b}, matchExpressions: [{key: pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match, operator: Exists}]}}, status: {expectedPods: 5}}`,
		`{metadata: {generation: 1}, spec: {selector: {matchLabels: {a: b}, matchExpressions: null}}, status: {expectedPods: 0}}`)
	testCells(t, PodDisruptionBudgets, `{metadata: {name: b}, spec: {minAvailable: 50%}, status: {disruptionsAllowed: 2}}`, "b", "50%", "N/A", int64(2), "60m")
	testCells(t, PodDisruptionBudgets, `{metadata: {name: b}, spec: {maxUnavailable: 3}}`, "b", "N/A", "3", int64(0), "60m")
}
