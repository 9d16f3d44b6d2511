package node

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	goruntime "runtime"

	"shoal/node/server"
)

// maxPods is how many pods a machine takes: its pod CIDR has 254 addresses.
const maxPods = 250

// machine is what was found out about the machine at start.
type machine struct {
	capacity corev1.ResourceList
	info     corev1.NodeSystemInfo
}

// detect finds out about this machine; dir is on the disk that pods use.
func detect(dir string) machine {
	m := machine{capacity: corev1.ResourceList{
		corev1.ResourceCPU:  *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourcePods: *resource.NewQuantity(maxPods, resource.DecimalSI),
	}}
	if total, _ := server.MachineMemory(); total > 0 {
		m.capacity[corev1.ResourceMemory] = *resource.NewQuantity(total, resource.BinarySI)
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil || unix.Statfs("/", &fs) == nil {
		m.capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(fs.Blocks)*fs.Bsize, resource.BinarySI)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.info.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	m.info.MachineID = firstLine("/etc/machine-id")
	m.info.SystemUUID = firstLine("/sys/class/dmi/id/product_uuid")
	m.info.BootID = firstLine("/proc/sys/kernel/random/boot_id")
	m.info.OSImage = osImage()
	return m
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return goruntime.GOOS
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return goruntime.GOOS
}

func (n *Node) capacity() corev1.ResourceList {
	out := n.machine.capacity.DeepCopy()
	for name, q := range n.cfg.Machine.Capacity {
		out[name] = q.DeepCopy()
	}
	return out
}

// allocatable is what pods may request: everything but what the machine's owner reserves for its other work. Shoal itself is small.
func (n *Node) allocatable() corev1.ResourceList {
	out := n.capacity()
	for name, reserved := range n.cfg.Machine.Reserved {
		if q, ok := out[name]; ok {
			if q.Sub(reserved); q.Sign() < 0 {
				q = resource.Quantity{Format: q.Format}
			}
			out[name] = q
		}
	}
	return out
}
