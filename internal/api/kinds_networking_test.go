package api

import (
	"strings"
	"testing"
)

func TestNetworkPolicies(t *testing.T) {
	const good = `{metadata: {name: p}, spec: {podSelector: {matchLabels: {a: b}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}}`
	port := func(text string) string { return `{spec: {egress: [{ports: [` + text + `]}]}}` }
	peer := func(text string) string { return `{spec: {egress: [{to: [` + text + `]}]}}` }
	testCreation(t, NetworkPolicies, good,
		rule{"a selector", `{spec: {podSelector: {matchLabels: {"a b": c}}}}`, []string{"spec.podSelector.matchLabels: Invalid value"}},
		rule{"a protocol", port(`{protocol: ICMP}`), []string{`spec.egress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"`}},
		rule{"a port", port(`{port: 70000}`), []string{"spec.egress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535"}},
		rule{"a port's name", port(`{port: "A b"}`), []string{"spec.egress[0].ports[0].port: Invalid value: \"A b\""}},
		rule{"a range", port(`{port: 80, endPort: 90}`), nil},
		rule{"a range upwards", port(`{port: 80, endPort: 79}`), []string{"spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`"}},
		rule{"a range of numbers", port(`{port: http, endPort: 79}`), []string{"spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric"}},
		rule{"a range from somewhere", port(`{endPort: 79}`), []string{"spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified"}},
		rule{"a peer", peer(`{}`), []string{"spec.egress[0].to[0]: Required value: must specify a peer"}},
		rule{"pods or addresses", peer(`{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}`), []string{"spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"}},
		rule{"addresses", peer(`{ipBlock: {}}`), []string{"spec.egress[0].to[0].ipBlock.cidr: Required value"}},
		rule{"a range of addresses", peer(`{ipBlock: {cidr: 10.0.0.0}}`), []string{"spec.egress[0].to[0].ipBlock.cidr: Invalid value"}},
		rule{"but some", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}`), nil},
		rule{"of them", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16]}}`), []string{
			"spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`", "spec.egress[0].to[0].ipBlock.except[1]: Invalid value",
		}},
		rule{"a direction", `{spec: {policyTypes: [Foo]}}`, []string{`spec.policyTypes[0]: Unsupported value: "Foo": supported values: "Ingress", "Egress"`}},
		rule{"two directions", `{spec: {policyTypes: [Ingress, Egress, Ingress]}}`, []string{"spec.policyTypes: Invalid value"}})
	testUpdate(t, NetworkPolicies, "", good,
		rule{"everything may change", `{spec: {podSelector: null, ingress: null, policyTypes: [Egress]}}`, nil},
		rule{"to good values", port(`{port: 70000}`), []string{"spec.egress[0].ports[0].port: Invalid value"}})
	testDefaults(t, NetworkPolicies, good, `{metadata: {generation: 1}, spec: {policyTypes: [Ingress], ingress: [{ports: [{protocol: TCP}]}]}}`)
	testDefaults(t, NetworkPolicies, `{metadata: {name: p}, spec: {egress: [{ports: [{port: 1}]}]}}`, `{spec: {policyTypes: [Ingress, Egress], egress: [{ports: [{protocol: TCP}]}]}}`)
	testCells(t, NetworkPolicies, good, "p", "a=b", "60m")
	testCells(t, NetworkPolicies, `{metadata: {name: p}}`, "p", "<none>", "60m")
}

func TestIngresses(t *testing.T) {
	const good = `{metadata: {name: i}, spec: {rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`
	path := func(path, kind string) string {
		return `{spec: {rules: [{http: {paths: [{path: ` + path + `, pathType: ` + kind + `, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`
	}
	backend := func(text string) string { return `{spec: {defaultBackend: {` + text + `}}}` }
	host := func(text string) string { return `{spec: {rules: [{host: "` + text + `"}]}}` }
	const at, back = "spec.rules[0].http.paths[0].", "spec.defaultBackend"
	testCreation(t, Ingresses, good,
		rule{"a rule or a backend", `{spec: null}`, []string{"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"}},
		rule{"a host", host("A_b"), []string{"spec.rules[0].host: Invalid value"}},
		rule{"no address", host("1.2.3.4"), []string{`spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`}},
		rule{"all hosts of a domain", host("*.example.com"), nil},
		rule{"only all", host("a*.example.com"), []string{"spec.rules[0].host: Invalid value"}},
		rule{"paths", `{spec: {rules: [{http: {}}]}}`, []string{"spec.rules[0].http.paths: Required value"}},
		rule{"a type of path", path("/", "null"), []string{at + "pathType: Required value: pathType must be specified"}},
		rule{"a known type of path", path("/", "Foo"), []string{at + `pathType: Unsupported value: "Foo": supported values: "Exact", "ImplementationSpecific", "Prefix"`}},
		rule{"an absolute path", path("x", "Exact"), []string{at + `path: Invalid value: "x": must be an absolute path`}},
		rule{"a path", path(`""`, "Prefix"), []string{at + `path: Invalid value: "": must be an absolute path`}},
		rule{"or none", path(`""`, "ImplementationSpecific"), nil},
		rule{"not a strange one", path("/a//b/..", "Prefix"), []string{at + `path: Invalid value: "/a//b/..": must not contain '//'`, at + `path: Invalid value: "/a//b/..": cannot end with '/..'`}},
		rule{"a backend", backend(``), []string{back + `: Invalid value: "": resource or service backend is required`}},
		rule{"one backend", backend(`resource: {kind: K, name: m}, service: {name: s}`), []string{back + `: Invalid value: "": cannot set both resource and service backends`}},
		rule{"a resource", backend(`resource: {apiGroup: A_b}`), []string{back + ".resource.apiGroup: Invalid value", back + ".resource.kind: Required value", back + ".resource.name: Required value"}},
		rule{"a service", backend(`service: {}`), []string{back + ".service.name: Required value", back + ": Required value: port name or number is required"}},
		rule{"a service's name", backend(`service: {name: A, port: {number: 70000}}`), []string{back + ".service.name: Invalid value", back + ".service.port.number: Invalid value"}},
		rule{"that begins with a digit", backend(`service: {name: 0a, port: {name: http}}`), nil},
		rule{"one port", backend(`service: {name: s, port: {name: http, number: 80}}`), []string{back + `: Invalid value: "": cannot set both port name & port number`}},
		rule{"certificates", `{spec: {tls: [{hosts: [A_b], secretName: A_b}]}}`, []string{"spec.tls[0].hosts[0]: Invalid value", "spec.tls[0].secretName: Invalid value"}},
		rule{"a class", `{spec: {ingressClassName: A_b}}`, []string{"spec.ingressClassName: Invalid value"}},
		rule{"one class", `{metadata: {annotations: {kubernetes.io/ingress.class: x}}, spec: {ingressClassName: z}}`, []string{"annotations.kubernetes.io/ingress.class: Invalid value: \"x\": must match `ingressClassName` when both are specified"}})
	testUpdate(t, Ingresses, "", good,
		rule{"everything may change", `{metadata: {annotations: {kubernetes.io/ingress.class: x}}, spec: {ingressClassName: z}}`, nil},
		rule{"to good values", host("A_b"), []string{"spec.rules[0].host: Invalid value"}})
	testUpdate(t, Ingresses, "status", good,
		rule{"addresses and names", `{status: {loadBalancer: {ingress: [{ip: 1.2.3.4}, {hostname: a.b}]}}}`, nil},
		rule{"not the one for the other", `{status: {loadBalancer: {ingress: [{ip: a.b}, {hostname: 1.2.3.4}]}}}`, []string{"status.loadBalancer.ingress[0].ip: Invalid value", "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"}})
	testDefaults(t, Ingresses, strings.Replace(good, "spec:", "status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}, spec:", 1), `{metadata: {generation: 1}, status: {loadBalancer: {ingress: null}}}`)
	testCells(t, Ingresses, good, "i", "<none>", "a.example.com", "", "80", "60m")
	testCells(t, Ingresses, `{metadata: {name: i}, spec: {ingressClassName: c, tls: [{}], rules: [{host: a}, {host: b}, {}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{hostname: h}, {ip: 1.2.3.4}]}}}`,
		"i", "c", "a,b,c + 2 more...", "1.2.3.4,h", "80, 443", "60m")
	testCells(t, Ingresses, `{metadata: {name: i}, spec: {rules: [{}]}}`, "i", "<none>", "*", "", "80", "60m")
}

func TestIngressClasses(t *testing.T) {
	const good = `{metadata: {name: c}, spec: {controller: example.com/c}}`
	parameters := func(text string) string { return `{spec: {parameters: {kind: K, name: m, ` + text + `}}}` }
	testCreation(t, IngressClasses, good,
		rule{"a controller", `{spec: {controller: ""}}`, []string{"spec.controller: Required value"}},
		rule{"with a domain", `{spec: {controller: c}}`, []string{"spec.controller: Invalid value"}},
		rule{"not too long", `{spec: {controller: example.com/` + strings.Repeat("a", 250) + `}}`, []string{"spec.controller: Too long"}},
		rule{"parameters", `{spec: {parameters: {apiGroup: A_b}}}`, []string{"spec.parameters.apiGroup: Invalid value", "spec.parameters.kind: Required value", "spec.parameters.name: Required value"}},
		rule{"of the cluster", parameters(`namespace: x`), []string{"spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"}},
		rule{"or of a namespace", parameters(`scope: Namespace`), []string{"spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"}},
		rule{"with a name", parameters(`scope: Namespace, namespace: A`), []string{"spec.parameters.namespace: Invalid value"}},
		rule{"nothing else", parameters(`scope: Foo`), []string{`spec.parameters.scope: Unsupported value: "Foo": supported values: "Cluster", "Namespace"`}})
	testUpdate(t, IngressClasses, "", good,
		rule{"the controller stays", `{spec: {controller: example.com/d}}`, []string{"spec.controller: Invalid value: \"example.com/d\": field is immutable"}},
		rule{"parameters may change", parameters(``), nil})
	testDefaults(t, IngressClasses, `{metadata: {name: c}, spec: {controller: example.com/c, parameters: {kind: K, name: m}}}`, `{metadata: {generation: 1}, spec: {parameters: {scope: Cluster}}}`)
	testCells(t, IngressClasses, `{metadata: {name: c, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}, spec: {controller: example.com/c, parameters: {apiGroup: g, kind: K, name: m}}}`,
		"c (default)", "example.com/c", "K.g/m", "60m")
	testCells(t, IngressClasses, good, "c", "example.com/c", "<none>", "60m")
}
