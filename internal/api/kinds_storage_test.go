package api

import (
	"strings"
	"testing"

	storagev1 "k8s.io/api/storage/v1"
)

func TestStorageClasses(t *testing.T) {
	const good = `{metadata: {name: s}, provisioner: example.com/P}`
	topology := func(text string) string { return `{allowedTopologies: [` + text + `]}` }
	const term = `{matchLabelExpressions: [{key: zone, values: [a, b]}]}`
	testCreation(t, StorageClasses, good,
		rule{"a provisioner", `{provisioner: null}`, []string{"provisioner: Required value"}},
		rule{"that can be one", `{provisioner: a/b/c}`, []string{"provisioner: Invalid value"}},
		rule{"parameters have names", `{parameters: {"": x}}`, []string{`parameters: Invalid value: "": field can not be empty.`}},
		rule{"and a size", `{parameters: {a: "` + strings.Repeat("x", maxMetadataSize) + `"}}`, []string{"parameters: Too long"}},
		rule{"what becomes of volumes", `{reclaimPolicy: Recycle}`, []string{`reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"`}},
		rule{"when they are bound", `{volumeBindingMode: Foo}`, []string{`volumeBindingMode: Unsupported value: "Foo": supported values: "Immediate", "WaitForFirstConsumer"`}},
		rule{"where they are", topology(term), nil},
		rule{"said once", topology(term + `, {matchLabelExpressions: [{key: zone, values: [b, a]}]}`), []string{"allowedTopologies[1].matchLabelExpressions: Duplicate value"}},
		rule{"with values", topology(`{matchLabelExpressions: [{key: "a b"}]}`), []string{"allowedTopologies[0].matchLabelExpressions[0].values: Required value", "allowedTopologies[0].matchLabelExpressions[0].key: Invalid value"}},
		rule{"each once", topology(`{matchLabelExpressions: [{key: a, values: [b, b]}, {key: a, values: [c]}]}`), []string{"allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value", "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value"}})
	testUpdate(t, StorageClasses, "", good,
		rule{"it stays", `{provisioner: b, parameters: {a: b}, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer}`, []string{
			"provisioner: Invalid value", "parameters: Invalid value", "reclaimPolicy: Invalid value", "volumeBindingMode: Invalid value",
		}},
		rule{"the rest may change", `{allowVolumeExpansion: true, mountOptions: [ro], allowedTopologies: [` + term + `]}`, nil})
	testDefaults(t, StorageClasses, good, `{reclaimPolicy: Delete, volumeBindingMode: Immediate, allowVolumeExpansion: null}`)
	testCells(t, StorageClasses, `{metadata: {name: s}, provisioner: p}`, "s", "p", "Delete", "Immediate", false, "60m")
	testCells(t, StorageClasses, `{metadata: {name: s, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: p, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer, allowVolumeExpansion: true}`,
		"s (default)", "p", "Retain", "WaitForFirstConsumer", true, "60m")
}

func TestCSIDrivers(t *testing.T) {
	const good = `{metadata: {name: d.example.com}, spec: {}}`
	testCreation(t, CSIDrivers, good,
		rule{"groups of files", `{spec: {fsGroupPolicy: Foo}}`, []string{`spec.fsGroupPolicy: Unsupported value: "Foo": supported values: "File", "None", "ReadWriteOnceWithFSType"`}},
		rule{"lifecycles", `{spec: {volumeLifecycleModes: [Foo]}}`, []string{`spec.volumeLifecycleModes: Unsupported value: "Foo": supported values: "Persistent", "Ephemeral"`}},
		rule{"one token for an audience", `{spec: {tokenRequests: [{audience: a}, {audience: a}]}}`, []string{"spec.tokenRequests[1].audience: Duplicate value"}},
		rule{"for a while", `{spec: {tokenRequests: [{audience: a, expirationSeconds: 1}, {audience: b, expirationSeconds: 5000000000}]}}`, []string{
			"spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes", "spec.tokenRequests[1].expirationSeconds: Invalid value: 5000000000: may not specify a duration larger than 2^32 seconds",
		}},
		rule{"tokens in secrets", `{spec: {serviceAccountTokenInSecrets: true}}`, []string{"spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified"}},
		rule{"rarely", `{spec: {nodeAllocatableUpdatePeriodSeconds: 9}}`, []string{"spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"}})
	testUpdate(t, CSIDrivers, "", good,
		rule{"attaching stays", `{spec: {attachRequired: false}}`, []string{"spec.attachedRequired: Invalid value: false: field is immutable"}},
		rule{"lifecycles stay", `{spec: {volumeLifecycleModes: [Ephemeral]}}`, []string{"spec.volumeLifecycleModes: Invalid value"}},
		rule{"the rest may change", `{spec: {podInfoOnMount: true, storageCapacity: true, fsGroupPolicy: None, tokenRequests: [{audience: a}]}}`, nil})
	testDefaults(t, CSIDrivers, good, `{metadata: {generation: null}, spec: {attachRequired: true, podInfoOnMount: false, storageCapacity: false, fsGroupPolicy: ReadWriteOnceWithFSType,
		requiresRepublish: false, seLinuxMount: false, preventPodSchedulingIfMissing: false, volumeLifecycleModes: [Persistent]}}`)
	testCells(t, CSIDrivers, `{metadata: {name: d}}`, "d", true, false, false, "<unset>", false, "<none>", "60m")
	testCells(t, CSIDrivers, `{metadata: {name: d}, spec: {attachRequired: false, podInfoOnMount: true, storageCapacity: true, tokenRequests: [{audience: a}, {audience: b}], requiresRepublish: true, volumeLifecycleModes: [Persistent, Ephemeral]}}`,
		"d", false, true, true, "a,b", true, "Persistent,Ephemeral", "60m")
}

func TestADriversGenerationCountsChanges(t *testing.T) {
	old, updated := &storagev1.CSIDriver{}, &storagev1.CSIDriver{}
	CSIDrivers.PrepareUpdate(updated, old)
	if updated.Generation != 0 {
		t.Error("no change is counted")
	}
	defaultCSIDriver(updated)
	CSIDrivers.PrepareUpdate(updated, old)
	if updated.Generation != 1 {
		t.Error("a change is not counted")
	}
}

func TestCSINodes(t *testing.T) {
	const good = `{metadata: {name: m}, spec: {drivers: [{name: d.example.com, nodeID: i, topologyKeys: [zone]}]}}`
	drivers := func(text string) string { return `{spec: {drivers: [` + text + `]}}` }
	testCreation(t, CSINodes, good,
		rule{"a driver's name and the node's", drivers(`{}`), []string{"spec.drivers[0].name: Required value", "spec.drivers[0].nodeID: Required value"}},
		rule{"that are not too long", drivers(`{name: ` + strings.Repeat("d", 64) + `, nodeID: ` + strings.Repeat("i", 257) + `}`), []string{"spec.drivers[0].name: Too long", "spec.drivers[0].nodeID: Invalid value"}},
		rule{"each driver once", drivers(`{name: d, nodeID: i}, {name: d, nodeID: j}`), []string{"spec.drivers[1].name: Duplicate value"}},
		rule{"keys", drivers(`{name: d, nodeID: i, topologyKeys: [a, a, "b c"]}`), []string{"spec.drivers[0]: Duplicate value", "spec.drivers[0]: Invalid value"}},
		rule{"a number of volumes", drivers(`{name: d, nodeID: i, allocatable: {count: -1}}`), []string{"spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0"}})
	testUpdate(t, CSINodes, "", good,
		rule{"a driver stays as it is", drivers(`{name: d.example.com, nodeID: j, topologyKeys: [zone]}`), []string{"spec.drivers: Invalid value"}},
		rule{"but for the number of volumes", drivers(`{name: d.example.com, nodeID: i, topologyKeys: [zone], allocatable: {count: 3}}`), nil},
		rule{"or it goes", drivers(``), nil})
	testUpdate(t, CSINodes, "status", good, rule{"what is not in use is dropped", `{status: {storageHealth: [{}]}}`, nil})
	testCells(t, CSINodes, good, "m", int64(1), "60m")
}

func TestVolumeAttachments(t *testing.T) {
	const good = `{metadata: {name: a}, spec: {attacher: d.example.com, nodeName: m, source: {persistentVolumeName: v}}}`
	inline := func(text string) string {
		return `{spec: {source: {persistentVolumeName: null, inlineVolumeSpec: {` + text + `}}}}`
	}
	const csi = `accessModes: [ReadWriteOnce], csi: {driver: d, volumeHandle: h}`
	const at = "spec.source.inlineVolumeSpec."
	testCreation(t, VolumeAttachments, good,
		rule{"who attaches", `{spec: {attacher: null}}`, []string{"spec.attacher: Required value"}},
		rule{"with a name", `{spec: {attacher: a_b}}`, []string{"spec.attacher: Invalid value"}},
		rule{"to which node", `{spec: {nodeName: null}}`, []string{"spec.nodeName: Invalid value"}},
		rule{"what", `{spec: {source: null}}`, []string{"spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		rule{"one of both", `{spec: {source: {inlineVolumeSpec: {}}}}`, []string{"spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		rule{"a volume", `{spec: {source: {persistentVolumeName: ""}}}`, []string{"spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName", "spec.source.persistentVolumeName: Invalid value"}},
		rule{"an inline volume", inline(csi), nil},
		rule{"that is CSI's", inline(`accessModes: [ReadWriteOnce], hostPath: {path: /x}`), []string{at + "csi: Required value: has to be specified in the context of inline volumes"}},
		rule{"and nothing else", inline(csi + `, claimRef: {name: a}, capacity: {storage: 1Gi}, persistentVolumeReclaimPolicy: Delete, nodeAffinity: {}, storageClassName: s, volumeMode: Block`), []string{
			at + "claimRef: Forbidden: may not be specified in the context of inline volumes", at + "capacity: Forbidden: may not be specified", at + "persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes",
			at + "nodeAffinity: Forbidden", at + "storageClassName: Forbidden", at + "volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes",
		}})
	testUpdate(t, VolumeAttachments, "", good, rule{"it stays", `{spec: {nodeName: other}}`, []string{"spec: Invalid value"}})
	testUpdate(t, VolumeAttachments, "status", good,
		rule{"attached", `{status: {attached: true, attachmentMetadata: {a: b}}}`, nil},
		rule{"short errors", `{status: {attachError: {message: ` + strings.Repeat("x", 1025) + `}, detachError: {errorCode: -1}}}`, []string{"status.attachError.message: Too long", "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"}})
	testDefaults(t, VolumeAttachments, strings.Replace(good, "spec:", "status: {attached: true}, spec:", 1), `{status: {attached: false}}`)
	testCells(t, VolumeAttachments, `{metadata: {name: a}, spec: {attacher: d, nodeName: m, source: {persistentVolumeName: v}}, status: {attached: true}}`, "a", "d", "v", "m", true, "60m")
}

func TestCSIStorageCapacities(t *testing.T) {
	const good = `{metadata: {name: c}, storageClassName: s, capacity: 1Gi, nodeTopology: {matchLabels: {a: b}}}`
	testCreation(t, CSIStorageCapacities, good,
		rule{"a class", `{storageClassName: ""}`, []string{"storageClassName: Invalid value"}},
		rule{"not negative", `{capacity: "-1"}`, []string{`capacity: Invalid value: "-1": must be greater than or equal to 0`}},
		rule{"which nodes", `{nodeTopology: {matchLabels: {"a b": c}}}`, []string{"nodeTopology.matchLabels: Invalid value"}})
	testUpdate(t, CSIStorageCapacities, "", good,
		rule{"what was asked stays", `{storageClassName: t, nodeTopology: null}`, []string{"storageClassName: Invalid value: \"t\": field is immutable", "nodeTopology: Invalid value"}},
		rule{"the answer may change", `{capacity: 2Gi, maximumVolumeSize: 1Gi}`, nil})
	testCells(t, CSIStorageCapacities, good, "c", "s", "1Gi")
	testCells(t, CSIStorageCapacities, `{metadata: {name: c}, storageClassName: s}`, "c", "s", "<unset>")
}
