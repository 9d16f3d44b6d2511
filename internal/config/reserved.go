package config

import "k8s.io/apimachinery/pkg/api/resource"

// Reserved is what of this machine pods may not request: amounts such as 500m of a CPU or 1Gi of memory. What else runs there is then counted with.
type Reserved struct {
	CPU    string `toml:"cpu"`
	Memory string `toml:"memory"`
	Disk   string `toml:"disk"`
}

func (k *checker) reserved(r *Reserved) {
	for key, value := range map[string]string{"cpu": r.CPU, "memory": r.Memory, "disk": r.Disk} {
		if q, err := resource.ParseQuantity(value); err != nil || q.Sign() < 0 {
			k.fail("reserved."+key, "is %q; write a quantity such as 500m of a CPU, or 1Gi", value)
		}
	}
}
