package api

import "testing"

func TestHorizontalPodAutoscalers(t *testing.T) {
	const good = `{metadata: {name: h}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 5}}`
	metric := func(text string) string { return `{spec: {metrics: [` + text + `]}}` }
	behavior := func(text string) string { return `{spec: {behavior: {scaleUp: {` + text + `}}}}` }
	const at, up = "spec.metrics[0].", "spec.behavior.scaleUp."
	testCreation(t, HorizontalPodAutoscalers, good,
		rule{"at most some", `{spec: {maxReplicas: null}}`, []string{"spec.maxReplicas: Required value: must be set and greater than 0", "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"}},
		rule{"not fewer than none", `{spec: {maxReplicas: -1, minReplicas: -2}}`, []string{"spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1", "spec.minReplicas: Invalid value: -2: must be greater than or equal to 0"}},
		rule{"the most is not less than the least", `{spec: {minReplicas: 9}}`, []string{"spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"}},
		rule{"none needs a reason to come back", `{spec: {minReplicas: 0}}`, []string{"spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"}},
		rule{"a target", `{spec: {scaleTargetRef: null}}`, []string{"spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value", "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group"}},
		rule{"of a group", `{spec: {scaleTargetRef: {apiVersion: v1}}}`, []string{"spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"}},
		rule{"or of the core", `{spec: {scaleTargetRef: {apiVersion: v1, kind: ReplicationController}}}`, nil},
		rule{"a type of metric", metric(`{}`), []string{at + "type: Required value: must specify a metric source type", at + "type: Unsupported value"}},
		rule{"a known one", metric(`{type: Foo}`), []string{at + `type: Unsupported value: "Foo": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"`}},
		rule{"with its source", metric(`{type: Pods}`), []string{at + "pods: Required value: must populate information for the given metric source"}},
		rule{"and no other", metric(`{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}, pods: {}}`), []string{
			at + "pods: Forbidden: must populate the given metric source only", at + "pods.metric.name: Required value: must specify a metric name", at + "pods.target.type: Required value", at + "pods.target.type: Invalid value", at + "pods.target.averageValue: Required value: must specify a positive target averageValue",
		}},
		rule{"a resource", metric(`{type: Resource, resource: {target: {type: Foo, averageUtilization: 0}}}`), []string{at + "resource.name: Required value: must specify a resource name", at + "resource.target.type: Invalid value: \"Foo\": must be either Utilization, Value, or AverageValue", at + "resource.target.averageUtilization: Invalid value: 0: must be greater than 0"}},
		rule{"an amount or a part", metric(`{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50, averageValue: "1"}}}`), []string{at + "resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"}},
		rule{"one of them", metric(`{type: Resource, resource: {name: cpu, target: {type: Utilization}}}`), []string{at + "resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"}},
		rule{"a container", metric(`{type: ContainerResource, containerResource: {name: foo, target: {type: Utilization, averageUtilization: 50}}}`), []string{at + "containerResource.name: Invalid value: \"foo\": must be a standard resource type or fully qualified", at + "containerResource.name: Invalid value: \"foo\": must be a standard resource for containers", at + "containerResource.container: Required value: must specify a container"}},
		rule{"something outside", metric(`{type: External, external: {metric: {name: a/b}, target: {type: Value, value: "1", averageValue: "-1"}}}`), []string{at + "external.metric.name: Invalid value", at + "external.target.averageValue: Invalid value: \"-1\": must be positive", at + "external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"}},
		rule{"an object", metric(`{type: Object, object: {describedObject: {apiVersion: a/b/c}, metric: {name: x}, target: {type: Value}}}`), []string{at + "object.describedObject.kind: Required value", at + "object.describedObject.name: Required value", at + "object.describedObject.apiVersion: Invalid value", at + "object.target.averageValue: Required value: must set either a target value or averageValue"}},
		rule{"a window", behavior(`stabilizationWindowSeconds: 3601, tolerance: "-1"`), []string{up + "stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600", up + `tolerance: Invalid value: "-1": must be greater than or equal to 0`}},
		rule{"forwards", behavior(`stabilizationWindowSeconds: -1`), []string{up + "stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero"}},
		rule{"policies", behavior(`selectPolicy: Foo, policies: []`), []string{up + `selectPolicy: Unsupported value: "Foo": supported values: "Disabled", "Max", "Min"`, up + "policies: Required value: must specify at least one Policy"}},
		rule{"good ones", behavior(`policies: [{type: Foo, value: 0, periodSeconds: 0}, {type: Pods, value: 1, periodSeconds: 1801}]`), []string{
			up + `policies[0].type: Unsupported value: "Foo": supported values: "Percent", "Pods"`, up + "policies[0].value: Invalid value: 0: must be greater than zero", up + "policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
			up + "policies[1].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
		}})
	testUpdate(t, HorizontalPodAutoscalers, "", good,
		rule{"everything may change", `{spec: {scaleTargetRef: {kind: ReplicaSet}, maxReplicas: 9, minReplicas: 3}}`, nil},
		rule{"to good values", `{spec: {maxReplicas: 0, scaleTargetRef: {apiVersion: v1}}}`, []string{"spec.maxReplicas: Required value", "spec.maxReplicas: Invalid value", "spec.scaleTargetRef.apiVersion: Invalid value"}})
	testUpdate(t, HorizontalPodAutoscalers, "status", good,
		rule{"no negative counts", `{status: {currentReplicas: -1, desiredReplicas: -1, conditions: [{type: A, status: "True", observedGeneration: -1}]}}`, []string{"status.currentReplicas: Invalid value: -1", "status.desiredReplicas: Invalid value: -1", "status.conditions[0].observedGeneration: Invalid value: -1"}},
		rule{"counted", `{status: {currentReplicas: 1, desiredReplicas: 2}}`, nil})
	testDefaults(t, HorizontalPodAutoscalers, good, `{metadata: {generation: 1}, spec: {minReplicas: 1, behavior: null, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}}`)
	testDefaults(t, HorizontalPodAutoscalers, `{metadata: {name: h}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 5, behavior: {scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}}}}`,
		`{spec: {behavior: {scaleUp: {stabilizationWindowSeconds: 0, selectPolicy: Max, policies: [{type: Pods, value: 4, periodSeconds: 15}, {type: Percent, value: 100, periodSeconds: 15}]},
			scaleDown: {stabilizationWindowSeconds: null, selectPolicy: Max, policies: [{type: Pods, value: 1, periodSeconds: 60}]}}}}`)
	cells := func(metrics, current, want string) {
		testCells(t, HorizontalPodAutoscalers, `{metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 5, minReplicas: 2, metrics: [`+metrics+`]}, status: {currentReplicas: 3, currentMetrics: [`+current+`]}}`,
			"h", "Deployment/d", want, "2", int64(5), int64(3), "60m")
	}
	const cpu = `{type: Resource, resource: {name: cpu, target: {averageUtilization: 50}}}`
	cells(``, ``, "<none>")
	cells(cpu, ``, "cpu: <unknown>/50%")
	cells(cpu, `{resource: {name: cpu, current: {averageUtilization: 40}}}`, "cpu: 40%/50%")
	cells(`{type: Resource, resource: {name: memory, target: {averageValue: 1Gi}}}`, `{resource: {name: memory, current: {averageValue: 2Gi}}}`, "memory: 2Gi/1Gi")
	cells(`{type: ContainerResource, containerResource: {name: cpu, container: c, target: {}}}`, ``, "cpu: <unknown>/<auto>")
	cells(`{type: Pods, pods: {target: {averageValue: "3"}}}`, `{pods: {current: {averageValue: "4"}}}`, "4/3")
	cells(`{type: Object, object: {target: {value: "3"}}}`, `{object: {current: {value: "4"}}}`, "4/3")
	cells(`{type: External, external: {target: {averageValue: "3"}}}`, `{external: {current: {averageValue: "4"}}}`, "4/3 (avg)")
	cells(cpu+","+cpu+","+cpu, ``, "cpu: <unknown>/50%, cpu: <unknown>/50% + 1 more...")
	cells(`{type: Foo}`, ``, "<unknown type>")
}
