package node

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A field of a pod's spec is honoured, and a test shows it; or refused or ignored, and there is a reason.
type treatment struct {
	tests   []string // DIRECTORY.TestName, from the top of the tree
	refused string
	ignored string
}

func by(tests ...string) treatment    { return treatment{tests: tests} }
func refused(reason string) treatment { return treatment{refused: reason} }
func ignored(reason string) treatment { return treatment{ignored: reason} }
func asKubernetesDoes() treatment {
	return ignored("not on Linux, or without the kernel's module: Kubernetes ignores it, too")
}

func notYetInKubernetes() treatment {
	return ignored("alpha: without its feature gate Kubernetes drops it")
}

func remoteVolume() treatment {
	return refused("this type of volume is not supported, as the pod's event says")
}
func scheduled(test string) treatment { return by("master/scheduler/placement." + test) }
func admitted(test string) treatment  { return by("master/admission." + test) }
func inContainerd(t string) treatment { return by("node/runtime/containerd." + t) }
func inVolume(tests string) treatment { return by("node/volume." + tests) }
func inNode(test string) treatment    { return by("node." + test) }
func inProbe(test string) treatment   { return by("node/probe." + test) }
func inSandbox(test string) treatment { return by("node/runtime/sandbox." + test) }
func dynamicResources() treatment {
	return refused("dynamic resource allocation is not supported (node/refuse.go)")
}
func projection() treatment           { return inVolume("TestProjectionOfEverything") }
func handler() treatment              { return by("node/probe.TestHTTPAndTCP", "node.TestHooks") }
func securityOfContainers() treatment { return inContainerd("TestSecurityContext") }
func selfDescription() treatment      { return inNode("TestEnvironment") }

// treatments has every field, by its own path or by the longest beginning of it. P stands for each of livenessProbe, readinessProbe and startupProbe.
func treatments() map[string]treatment {
	all := map[string]treatment{
		"volumes.name":                                  projection(),
		"volumes.hostPath":                              inVolume("TestHostPathMustBeWhatItSays"),
		"volumes.emptyDir.medium":                       inVolume("TestEmptyDirInMemoryIsBoundedAndGone"),
		"volumes.emptyDir.sizeLimit":                    by("node/volume.TestEmptyDirInMemoryIsBoundedAndGone", "node.TestWhoWritesMoreThanItsLimitGoes"),
		"volumes.secret":                                by("node/volume.TestWhatIsMissingHoldsThePodUnlessOptional", "node/volume.TestProjectionOfEverything"),
		"volumes.configMap":                             by("node/volume.TestConfigMapIsFollowedAsAWhole", "node/volume.TestWhatIsMissingHoldsThePodUnlessOptional"),
		"volumes.downwardAPI":                           projection(),
		"volumes.projected":                             projection(),
		"volumes.persistentVolumeClaim":                 inVolume("TestAPersistentVolumeOutlivesItsPods"),
		"volumes.ephemeral":                             by("internal/e2e.TestDataOutlivesPodsAndMachines"),
		"volumes.image":                                 by("node/runtime/containerd.TestAnImageIsMounted", "node.TestAVolumeMayBeAnImage"),
		"volumes.csi":                                   by("node.TestADriverIsToldOfThePod", "node/csi.TestAVolumeIsStagedOnceForAllItsPods"),
		"volumes.projected.sources.clusterTrustBundle":  refused("trust bundles are not supported, as the pod's event says"),
		"volumes.projected.sources.podCertificate":      refused("certificates of pods are not supported, as the pod's event says"),
		"volumes.projected.sources.serviceAccountToken": inVolume("TestATokenIsRenewedAndKeptWhenThereIsNoNewOne"),

		"initContainers":      inNode("TestInitContainersRunInOrderBeforeTheRest"),
		"ephemeralContainers": inNode("TestEphemeralContainersStartOnceWhateverBecomesOfTheOthers"),

		"containers.name":                                         inNode("TestPodRunsAndIsDeleted"),
		"containers.image":                                        inNode("TestMissingImageBacksOffAndRecovers"),
		"containers.command":                                      selfDescription(),
		"containers.args":                                         inNode("TestExpand"),
		"containers.workingDir":                                   inContainerd("TestWorkingDirectoryAndEntrypoint"),
		"containers.ports":                                        by("node.TestPortsOfTheMachineLeadToPodsThatRun", "proxy.TestHostPorts", "proxy.TestAHostPortOfOneAddress", "node/probe.TestHTTPAndTCP"),
		"containers.env":                                          selfDescription(),
		"containers.env.valueFrom.fileKeyRef":                     refused("variables from files are not supported (node/refuse.go)"),
		"containers.envFrom":                                      selfDescription(),
		"containers.resources.limits":                             by("node/runtime/containerd.TestMountsAndSharedMemory", "node.TestWhoWritesMoreThanItsLimitGoes"),
		"containers.resources.requests":                           by("node.TestPodThatDoesNotFitIsRefused", "node.TestAMachineShortOfMemoryEndsOnePodAfterTheOther"),
		"containers.resources.claims":                             dynamicResources(),
		"containers.resizePolicy":                                 by("node.TestAContainerMayWantToBeRestartedForItsResources", "internal/api.TestResizeMayChangeWhatIsAskedForAndNothingElse"),
		"containers.restartPolicy":                                refused("the API refuses it for containers that are not init containers"),
		"containers.restartPolicyRules":                           refused("rules by exit code are not supported (node/refuse.go)"),
		"containers.volumeMounts.name":                            inVolume("TestSubPathsStayInTheVolume"),
		"containers.volumeMounts.readOnly":                        inContainerd("TestMountsAndSharedMemory"),
		"containers.volumeMounts.recursiveReadOnly":               inContainerd("TestMountsAndSharedMemory"),
		"containers.volumeMounts.mountPath":                       inContainerd("TestMountsAndSharedMemory"),
		"containers.volumeMounts.subPath":                         inVolume("TestSubPathsStayInTheVolume"),
		"containers.volumeMounts.subPathExpr":                     inVolume("TestSubPathsStayInTheVolume"),
		"containers.volumeMounts.mountPropagation":                inContainerd("TestPropagationOfMounts"),
		"containers.volumeDevices":                                refused("block devices are not supported (node/refuse.go)"),
		"containers.P.exec":                                       inNode("TestProbesDecide"),
		"containers.P.httpGet":                                    inProbe("TestHTTPAndTCP"),
		"containers.P.tcpSocket":                                  inProbe("TestHTTPAndTCP"),
		"containers.P.grpc":                                       inProbe("TestGRPC"),
		"containers.P.initialDelaySeconds":                        inProbe("TestThresholdsDelayAndPeriod"),
		"containers.P.timeoutSeconds":                             inProbe("TestSlowAnswerIsABadOne"),
		"containers.P.periodSeconds":                              inProbe("TestThresholdsDelayAndPeriod"),
		"containers.P.successThreshold":                           inProbe("TestThresholdsDelayAndPeriod"),
		"containers.P.failureThreshold":                           inProbe("TestThresholdsDelayAndPeriod"),
		"containers.P.terminationGracePeriodSeconds":              inNode("TestAProbesOwnGrace"),
		"containers.readinessProbe.terminationGracePeriodSeconds": ignored("a readiness probe ends nothing; the API refuses it"),
		"containers.lifecycle.postStart":                          handler(),
		"containers.lifecycle.preStop":                            handler(),
		"containers.lifecycle.stopSignal":                         inContainerd("TestStopSignals"),
		"containers.terminationMessagePath":                       inContainerd("TestMountsAndSharedMemory"),
		"containers.terminationMessagePolicy":                     inNode("TestLastWords"),
		"containers.imagePullPolicy":                              inContainerd("TestImagePoliciesAndReasons"),
		"containers.securityContext":                              securityOfContainers(),
		"containers.securityContext.procMount":                    inContainerd("TestProcMount"),
		"containers.securityContext.seLinuxOptions":               asKubernetesDoes(),
		"containers.securityContext.windowsOptions":               asKubernetesDoes(),
		"containers.securityContext.appArmorProfile":              inContainerd("TestAppArmorProfiles"),
		"containers.stdin":                                        inContainerd("TestAttach"),
		"containers.stdinOnce":                                    inContainerd("TestAttach"),
		"containers.tty":                                          inContainerd("TestExecStreamsAndCodes"),

		"restartPolicy":                       inNode("TestStep"),
		"terminationGracePeriodSeconds":       inNode("TestStubbornPodIsKilledAfterItsGrace"),
		"activeDeadlineSeconds":               inNode("TestDeadlineEndsThePod"),
		"dnsPolicy":                           inNode("TestPodResolver"),
		"dnsConfig":                           inNode("TestPodResolver"),
		"nodeSelector":                        scheduled("TestObjections"),
		"affinity":                            scheduled("TestNeighbours"),
		"tolerations":                         scheduled("TestObjections"),
		"topologySpreadConstraints":           scheduled("TestSpread"),
		"overhead":                            by("internal/api.TestPodRequests", "master/admission.TestRuntimeClasses"),
		"preemptionPolicy":                    scheduled("TestPreempt"),
		"priority":                            scheduled("TestPreempt"),
		"priorityClassName":                   admitted("TestPriorityComesFromTheClass"),
		"schedulerName":                       by("master/scheduler.TestPodsOfOtherSchedulersAndGatedOnesAreLeftAlone"),
		"schedulingGates":                     by("master/scheduler.TestPodsOfOtherSchedulersAndGatedOnesAreLeftAlone"),
		"nodeName":                            inNode("TestPodRunsAndIsDeleted"),
		"serviceAccountName":                  admitted("TestContainersFindTheToken"),
		"serviceAccount":                      admitted("TestContainersFindTheToken"),
		"automountServiceAccountToken":        admitted("TestContainersFindTheToken"),
		"hostNetwork":                         inSandbox("TestSandboxUsesTheHostsNamespacesWhenAsked"),
		"hostPID":                             inSandbox("TestSandboxUsesTheHostsNamespacesWhenAsked"),
		"hostIPC":                             inSandbox("TestSandboxUsesTheHostsNamespacesWhenAsked"),
		"shareProcessNamespace":               inContainerd("TestPodsContainersShareNamespacesAndAShim"),
		"hostUsers":                           refused("user namespaces are not supported (node/refuse.go)"),
		"securityContext":                     securityOfContainers(),
		"securityContext.fsGroup":             inVolume("TestAVolumeBelongsToThePodsGroup"),
		"securityContext.fsGroupChangePolicy": inVolume("TestAVolumeBelongsToThePodsGroup"),
		"securityContext.sysctls":             inSandbox("TestSandboxRefusesTheMachinesSysctls"),
		"securityContext.seLinuxOptions":      asKubernetesDoes(),
		"securityContext.seLinuxChangePolicy": asKubernetesDoes(),
		"securityContext.windowsOptions":      asKubernetesDoes(),
		"securityContext.appArmorProfile":     inContainerd("TestAppArmorProfiles"),
		"imagePullSecrets":                    inNode("TestAPullSecretIsUsedTheMomentItIsThere"),
		"hostname":                            inNode("TestNamesOfPodsOnTheirMachines"),
		"subdomain":                           inNode("TestNamesOfPodsOnTheirMachines"),
		"hostnameOverride":                    notYetInKubernetes(),
		"setHostnameAsFQDN":                   inNode("TestNamesOfPodsOnTheirMachines"),
		"hostAliases":                         inNode("TestHostsFile"),
		"readinessGates":                      inNode("TestStatus"),
		"runtimeClassName":                    inNode("TestRuntimeClassesOfThisMachine"),
		"enableServiceLinks":                  selfDescription(),
		"os":                                  inNode("TestWhatCannotBeHonouredIsRefused"),
		"resourceClaims":                      dynamicResources(),
		"resources":                           by("internal/api.TestPodRequests"),
		"resources.claims":                    dynamicResources(),
		"schedulingGroup":                     notYetInKubernetes(),
		"evictionResponders":                  notYetInKubernetes(),
	}
	for _, name := range []string{
		"gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc",
		"azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
	} {
		all["volumes."+name] = remoteVolume()
	}
	for _, path := range []string{
		"volumes.emptyDir.mode", "containers.volumeMounts.bindMountOptions", "containers.lifecycle.postStart.httpGet.protocol", "containers.lifecycle.preStop.httpGet.protocol",
		"containers.P.httpGet.protocol", "containers.P.grpc.mode", "volumes.secret.items.user", "volumes.secret.defaultUser", "volumes.configMap.items.user",
		"volumes.configMap.defaultUser", "volumes.downwardAPI.items.user", "volumes.downwardAPI.defaultUser", "volumes.projected.defaultUser",
		"volumes.projected.sources.secret.items.user", "volumes.projected.sources.configMap.items.user", "volumes.projected.sources.downwardAPI.items.user",
		"volumes.projected.sources.serviceAccountToken.user",
	} {
		all[path] = notYetInKubernetes()
	}
	out := map[string]treatment{}
	for path, t := range all {
		if !strings.Contains(path, ".P.") {
			out[path] = t
			continue
		}
		for _, p := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
			if at := strings.Replace(path, ".P.", "."+p+".", 1); all[at].ignored == "" {
				out[at] = t
			}
		}
	}
	return out
}

// asOne are types whose fields one treatment covers.
var asOne = []string{
	"Affinity", "Toleration", "TopologySpreadConstraint", "LabelSelector", "Quantity", "IntOrString", "ObjectReference", "PersistentVolumeClaimTemplate",
	"WindowsSecurityContextOptions", "SELinuxOptions", "PodResourceClaim", "PodSchedulingGate", "EphemeralContainer",
}

// walk calls found with the path of every field below t.
func walk(t reflect.Type, at string, found func(path string)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(asOne, t.Name()) {
		found(at)
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		path := strings.TrimPrefix(at+"."+name, ".")
		switch {
		case name == "" || strings.Contains(options, "inline"):
			walk(f.Type, at, found)
		case t == reflect.TypeFor[corev1.VolumeSource]() && slices.Contains(remote(), path), path == "initContainers":
			found(path)
		default:
			walk(f.Type, path, found)
		}
	}
}

// remote are the volumes that are refused as a whole.
func remote() (paths []string) {
	for path, t := range treatments() {
		if t.refused != "" && strings.Count(path, ".") == 1 && strings.HasPrefix(path, "volumes.") {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestEveryFieldOfAPodIsAccountedFor(t *testing.T) {
	all := treatments()
	used := map[string]bool{}
	walk(reflect.TypeFor[corev1.PodSpec](), "", func(path string) {
		for at := path; ; {
			if _, ok := all[at]; ok {
				used[at] = true
				return
			}
			i := strings.LastIndexByte(at, '.')
			if i < 0 {
				t.Errorf("%s: who honours it, or why is it refused or ignored?", path)
				return
			}
			at = at[:i]
		}
	})
	known := map[string]map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !used[path] {
			t.Errorf("%s: there is no such field, or others say it all", path)
		}
		for _, test := range all[path].tests {
			dir, name, _ := strings.Cut(test, ".")
			if known[dir] == nil {
				known[dir] = testsIn(t, filepath.Join("..", dir))
			}
			if !known[dir][name] {
				t.Errorf("%s: there is no test %s", path, test)
			}
		}
	}
}

// testsIn returns the names of a directory's tests.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				out[f.Name.Name] = true
			}
		}
	}
	return out
}
