package api

import "testing"

func TestPersistentVolumes(t *testing.T) {
	const good = `{metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}}`
	source := func(text string) string { return `{spec: {hostPath: null, ` + text + `}}` }
	bad := func(name, text string, want ...string) rule { return rule{name, source(text), want} }
	testCreation(t, PersistentVolumes, good,
		rule{"a capacity", `{spec: {capacity: null}}`, []string{"spec.capacity: Required value", "spec.capacity: Unsupported value"}},
		rule{"of storage only", `{spec: {capacity: {cpu: "1"}}}`, []string{"spec.capacity: Unsupported value"}},
		rule{"more than none", `{spec: {capacity: {storage: "0"}}}`, []string{"spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"}},
		rule{"a mode", `{spec: {accessModes: null}}`, []string{"spec.accessModes: Required value"}},
		rule{"a known mode", `{spec: {accessModes: [Foo]}}`, []string{`spec.accessModes: Unsupported value: "Foo": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`}},
		rule{"for one pod or for several", `{spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce]}}`, []string{"spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"}},
		rule{"what becomes of it", `{spec: {persistentVolumeReclaimPolicy: Foo}}`, []string{`spec.persistentVolumeReclaimPolicy: Unsupported value: "Foo": supported values: "Delete", "Recycle", "Retain"`}},
		rule{"no host is recycled", `{spec: {persistentVolumeReclaimPolicy: Recycle, hostPath: {path: /.}}}`, []string{"spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"}},
		rule{"a known use", `{spec: {volumeMode: Foo}}`, []string{`spec.volumeMode: Unsupported value: "Foo": supported values: "Block", "Filesystem"`}},
		rule{"attributes of CSI", `{spec: {volumeAttributesClassName: a}}`, []string{"spec.csi: Required value: has to be specified when using volumeAttributesClassName"}},
		rule{"with a name", `{spec: {volumeAttributesClassName: "", hostPath: null, csi: {driver: d, volumeHandle: h}}}`, []string{"spec.volumeAttributesClassName: Required value: an empty string is disallowed"}},
		rule{"which nodes", `{spec: {nodeAffinity: {}}}`, []string{"spec.nodeAffinity.required: Required value: must specify required node constraints"}},
		rule{"a class", `{spec: {storageClassName: A_b}}`, []string{"spec.storageClassName: Invalid value"}},
		rule{"no options for a host", `{metadata: {annotations: {volume.beta.kubernetes.io/mount-options: ro}}}`, []string{"metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type"}},
		rule{"options for a mount", `{metadata: {annotations: {volume.beta.kubernetes.io/mount-options: ro}}, spec: {hostPath: null, nfs: {server: s, path: /p}}}`, nil},
		bad("a source", ``, "spec: Required value: must specify a volume type"),
		bad("one source", `nfs: {server: s, path: /p}, csi: {driver: d, volumeHandle: h}`, "spec.csi: Forbidden: may not specify more than 1 volume type"),
		bad("a local path belongs to a node", `local: {path: /x}`, "spec.nodeAffinity: Required value: Local volume requires node affinity"),
		bad("NFS", `nfs: {}`, "spec.nfs.path: Invalid value: \"\": must be an absolute path", "spec.nfs.path: Required value", "spec.nfs.server: Required value"),
		bad("CSI", `csi: {driver: a_b, nodeStageSecretRef: {}, nodePublishSecretRef: {}}`, "spec.csi.driver: Invalid value", "spec.csi.nodePublishSecretRef.name: Required value", "spec.csi.nodePublishSecretRef.namespace: Required value", "spec.csi.volumeHandle: Required value"),
		bad("GCE", `gcePersistentDisk: {partition: 256}`, "spec.persistentDisk.partition: Invalid value", "spec.persistentDisk.pdName: Required value"),
		bad("AWS", `awsElasticBlockStore: {partition: -1}`, "spec.awsElasticBlockStore.partition: Invalid value", "spec.awsElasticBlockStore.volumeID: Required value"),
		bad("Ceph", `cephfs: {}`, "spec.cephfs.monitors: Required value"),
		bad("RBD", `rbd: {}`, "spec.rbd.image: Required value", "spec.rbd.monitors: Required value"),
		bad("Gluster", `glusterfs: {endpointsNamespace: ""}`, "spec.glusterfs.endpointsNamespace: Invalid value", "spec.glusterfs.endpoints: Required value", "spec.glusterfs.path: Required value"),
		bad("Flocker", `flocker: {}`, "spec.flocker: Required value"),
		bad("Quobyte", `quobyte: {registry: r, volume: ""}`, "spec.quobyte.registry: Invalid value", "spec.quobyte.volume: Required value"),
		bad("iSCSI", `iscsi: {targetPortal: p, iqn: x, lun: 256, chapAuthSession: true}`, "spec.iscsi.iqn: Invalid value", "spec.iscsi.lun: Invalid value", "spec.iscsi.secretRef: Required value"),
		bad("iSCSI by domain", `iscsi: {targetPortal: p, iqn: "iqn.2015-02.example.com:disk"}`),
		bad("Fibre Channel", `fc: {targetWWNs: [a]}`, "spec.fc.lun: Required value"),
		bad("Flex", `flexVolume: {options: {kubernetes.io/x: z}}`, "spec.flexVolume.driver: Required value", "spec.flexVolume.options[kubernetes.io/x]: Invalid value"),
		bad("Azure files", `azureFile: {secretNamespace: ""}`, "spec.azureFile.secretName: Required value", "spec.azureFile.secretNamespace: Required value", "spec.azureFile.shareName: Required value"),
		bad("Azure disks", `azureDisk: {diskName: d, diskURI: u}`, "spec.azureDisk.diskURI: Unsupported value"),
		bad("StorageOS", `storageos: {volumeName: A}`, "spec.storageos.volumeName: Invalid value"))
	const placed = `{metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], csi: {driver: d, volumeHandle: h}, volumeAttributesClassName: a,
		nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/os, operator: Exists}]}]}}}}`
	nodes := func(key string) string {
		return `{spec: {nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: ` + key + `, operator: Exists}]}]}}}}`
	}
	testUpdate(t, PersistentVolumes, "", placed,
		rule{"the source stays", `{spec: {csi: {volumeHandle: i}}}`, []string{"spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation: spec.csi"}},
		rule{"but for one secret", `{spec: {csi: {controllerExpandSecretRef: {name: a, namespace: b}}}}`, nil},
		rule{"the use stays", `{spec: {volumeMode: Block}}`, []string{"volumeMode: Invalid value: \"Block\": field is immutable"}},
		rule{"the nodes stay", nodes("kubernetes.io/arch"), []string{"nodeAffinity: Invalid value"}},
		rule{"by a new label too", nodes("kubernetes.io/os"), nil},
		rule{"attributes stay", `{spec: {volumeAttributesClassName: null}}`, []string{"spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"}},
		rule{"the rest may change", `{spec: {capacity: {storage: 2Gi}, persistentVolumeReclaimPolicy: Delete, claimRef: {namespace: a, name: b}}}`, nil})
	testUpdate(t, PersistentVolumes, "status", good, rule{"it may say anything", `{status: {phase: Foo}}`, nil})
	testDefaults(t, PersistentVolumes, good, `{spec: {persistentVolumeReclaimPolicy: Retain, volumeMode: Filesystem, hostPath: {type: ""}}, status: {phase: Pending}}`)
	testCells(t, PersistentVolumes, `{metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteMany, ReadWriteOnce, ReadWriteOnce], persistentVolumeReclaimPolicy: Retain,
		claimRef: {namespace: a, name: b}, storageClassName: s}, status: {phase: Bound, reason: r}}`, "v", "1Gi", "RWO,RWX", "Retain", "Bound", "a/b", "s", "<unset>", "r", "60m", "<unset>")
}

func TestPersistentVolumeClaims(t *testing.T) {
	const good = `{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`
	testCreation(t, PersistentVolumeClaims, good,
		rule{"a mode", `{spec: {accessModes: null}}`, []string{"spec.accessModes: Required value: at least 1 access mode is required"}},
		rule{"a size", `{spec: {resources: null}}`, []string{"spec.resources[storage]: Required value"}},
		rule{"above zero", `{spec: {resources: {requests: {storage: "-1"}}}}`, []string{"spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"}},
		rule{"a known use", `{spec: {volumeMode: Foo}}`, []string{"spec.volumeMode: Unsupported value"}},
		rule{"no class at all", `{spec: {storageClassName: ""}}`, nil},
		rule{"a class", `{spec: {storageClassName: A_b, volumeAttributesClassName: A_b}}`, []string{"spec.storageClassName: Invalid value", "spec.volumeAttributesClassName: Invalid value"}},
		rule{"a selector", `{spec: {selector: {matchLabels: {"a b": c}}}}`, []string{"spec.selector.matchLabels: Invalid value"}},
		rule{"an unknown source is ignored", `{spec: {dataSource: {kind: Foo, name: x}}}`, nil},
		rule{"unless it is a reference", `{spec: {dataSourceRef: {kind: Foo, name: x}}}`, []string{"spec.dataSourceRef: Invalid value: \"Foo\": must be 'PersistentVolumeClaim' when referencing the default apiGroup", "spec.dataSource: Invalid value: \"Foo\": must be"}},
		rule{"both mean the same", `{spec: {dataSource: {kind: PersistentVolumeClaim, name: x}, dataSourceRef: {kind: PersistentVolumeClaim, name: z}}}`, []string{"spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"}})
	forbidden := func(fields string) []string {
		return []string{"spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims: " + fields}
	}
	testUpdate(t, PersistentVolumeClaims, "", good,
		rule{"it stays", `{spec: {accessModes: [ReadWriteMany]}}`, forbidden("spec.accessModes")},
		rule{"as large", `{spec: {resources: {requests: {storage: 2Gi}}}}`, forbidden("spec.resources")},
		rule{"of its use", `{spec: {volumeMode: Block}}`, append(forbidden("spec.volumeMode"), "volumeMode: Invalid value: \"Block\": field is immutable")},
		rule{"it gets a volume once", `{spec: {volumeName: v}}`, nil},
		rule{"and a class", `{spec: {storageClassName: s}}`, nil},
		rule{"not by annotation", `{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: s}}}`, []string{"metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"s\": field is immutable"}})
	testUpdate(t, PersistentVolumeClaims, "status", good,
		rule{"capacities", `{status: {capacity: {storage: "-1"}}}`, []string{"status.capacity[storage]: Invalid value: -1: must be a valid resource quantity"}},
		rule{"of storage", `{status: {allocatedResources: {cpu: "1"}}}`, []string{`status.allocatedResources: Unsupported value: "cpu": supported values: "storage"`}},
		rule{"known states", `{status: {allocatedResourceStatuses: {storage: Foo}}}`, []string{"status.allocatedResourceStatuses: Unsupported value"}},
		rule{"anything else", `{status: {phase: Bound, capacity: {storage: 1Gi}}}`, nil})
	testDefaults(t, PersistentVolumeClaims, `{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, dataSource: {kind: PersistentVolumeClaim, name: d}}, status: {phase: Bound}}`,
		`{spec: {volumeMode: Filesystem, dataSourceRef: {kind: PersistentVolumeClaim, name: d}}, status: {phase: Pending}}`)
	testDefaults(t, PersistentVolumeClaims, `{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, dataSource: {kind: Foo, name: d}}}`,
		`{spec: {dataSource: null, dataSourceRef: null}}`)
	testCells(t, PersistentVolumeClaims, `{metadata: {name: c}, spec: {volumeName: v, storageClassName: s}, status: {phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadOnlyMany]}}`,
		"c", "Bound", "v", "1Gi", "ROX", "s", "<unset>", "60m", "<unset>")
	testCells(t, PersistentVolumeClaims, `{metadata: {name: c, deletionTimestamp: "2020-09-13T12:26:40Z"}, spec: {}}`, "c", "Terminating", "", "", "", "", "<unset>", "60m", "<unset>")
}

// A claim that has its volume may grow, and take back growth that failed.
func TestBoundClaimsGrow(t *testing.T) {
	const good = `{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 3Gi}}, volumeAttributesClassName: a}}`
	for _, r := range []rule{
		{"larger", `{spec: {resources: {requests: {storage: 4Gi}}}}`, nil},
		{"less larger", `{spec: {resources: {requests: {storage: 2Gi}}}}`, nil},
		{"not smaller than it is", `{spec: {resources: {requests: {storage: 1Gi}}}}`, []string{"spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"}},
		{"other attributes", `{spec: {volumeAttributesClassName: b}}`, nil},
		{"not none", `{spec: {volumeAttributesClassName: null}}`, []string{"spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"}},
		{"nor empty ones", `{spec: {volumeAttributesClassName: ""}}`, []string{"spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			s, k := newServer(), PersistentVolumeClaims
			if _, err := s.create(k, testNamespace, toJSON(t, good)); err != nil {
				t.Fatal(err)
			}
			const bound = `{status: {phase: Bound, capacity: {storage: 1Gi}, currentVolumeAttributesClassName: a}}`
			if _, err := s.patch(k, testNamespace, "c", "status", "application/merge-patch+json", toJSON(t, bound)); err != nil {
				t.Fatal(err)
			}
			_, err := s.patch(k, testNamespace, "c", "", "application/merge-patch+json", toJSON(t, r.change))
			compareProblems(t, problems(t, err), r.want)
		})
	}
}
