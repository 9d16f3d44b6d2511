package api

import "testing"

func TestAdmissionPolicies(t *testing.T) {
	const good = `{metadata: {name: p}, spec: {validations: [{expression: "true"}], matchConstraints: {resourceRules: [
		{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}}}`
	testCreation(t, ValidatingAdmissionPolicies, good,
		rule{"something to match", `{spec: {matchConstraints: null}}`, []string{"spec.matchConstraints: Required value"}},
		rule{"rules to match by", `{spec: {matchConstraints: {resourceRules: null}}}`, []string{"spec.matchConstraints.resourceRules: Required value"}},
		rule{"good rules", `{spec: {matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [SINK], resources: [pods], resourceNames: [a, a, b/c]}]}}}`, []string{
			`spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: "SINK"`, "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value", "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value",
		}},
		rule{"something to say", `{spec: {validations: null}}`, []string{"spec.validations: Required value: validations or auditAnnotations must contain at least one item", "spec.auditAnnotations: Required value"}},
		rule{"an expression", `{spec: {validations: [{expression: " "}]}}`, []string{"spec.validations[0].expression: Required value: expression is not specified"}},
		rule{"a message of one line", `{spec: {validations: [{expression: "true", message: "a\nb"}]}}`, []string{"spec.validations[0].message: Invalid value"}},
		rule{"a reason that is one", `{spec: {validations: [{expression: "true", reason: Because}]}}`, []string{`spec.validations[0].reason: Unsupported value: "Because"`}},
		rule{"variables with names, once", `{spec: {variables: [{name: a, expression: "1"}, {name: a, expression: ""}, {name: a-b, expression: "1"}]}}`, []string{
			"spec.variables[1].name: Duplicate value", "spec.variables[1].expression: Required value", "spec.variables[2].name: Invalid value",
		}},
		rule{"a kind of parameters", `{spec: {paramKind: {apiVersion: a/b/c}}}`, []string{"spec.paramKind.apiVersion: Invalid value", "spec.paramKind.kind: Required value"}},
		rule{"a failure policy", `{spec: {failurePolicy: Hope}}`, []string{`spec.failurePolicy: Unsupported value: "Hope"`}},
		rule{"annotations", `{spec: {auditAnnotations: [{key: "a b", valueExpression: ""}]}}`, []string{"spec.auditAnnotations[0].key: Invalid value", "spec.auditAnnotations[0].valueExpression: Required value"}})
	testDefaults(t, ValidatingAdmissionPolicies, good, `{metadata: {generation: 1}, spec: {failurePolicy: Fail, matchConstraints: {matchPolicy: Equivalent,
		namespaceSelector: {}, objectSelector: {}, resourceRules: [{scope: "*"}]}}}`)
	testCells(t, ValidatingAdmissionPolicies, `{metadata: {name: p}, spec: {validations: [{}], paramKind: {apiVersion: v1, kind: ConfigMap}}}`, "p", int64(1), "v1/ConfigMap", "60m")
}

func TestAdmissionPolicyBindings(t *testing.T) {
	const good = `{metadata: {name: b}, spec: {policyName: p, validationActions: [Deny]}}`
	testCreation(t, ValidatingAdmissionPolicyBindings, good,
		rule{"of a policy", `{spec: {policyName: null}}`, []string{"spec.policyName: Required value"}},
		rule{"with a name", `{spec: {policyName: A_b}}`, []string{"spec.policyName: Invalid value"}},
		rule{"to do something", `{spec: {validationActions: null}}`, []string{"spec.validationActions: Required value"}},
		rule{"that can be done, once", `{spec: {validationActions: [Deny, Deny, Sink]}}`, []string{"spec.validationActions[1]: Duplicate value", `spec.validationActions[2]: Unsupported value: "Sink"`}},
		rule{"and said once", `{spec: {validationActions: [Deny, Warn]}}`, []string{"spec.validationActions: Invalid value"}},
		rule{"parameters by name or labels", `{spec: {paramRef: {name: a, selector: {}, parameterNotFoundAction: Deny}}}`, []string{"spec.paramRef.name: Forbidden"}},
		rule{"parameters by something", `{spec: {paramRef: {}}}`, []string{"spec.paramRef: Required value: one of name or selector", "spec.paramRef.parameterNotFoundAction: Required value"}})
	testCells(t, ValidatingAdmissionPolicyBindings, `{metadata: {name: b}, spec: {policyName: p, paramRef: {name: a, namespace: ns}}}`, "b", "p", "ns/a", "60m")
}
