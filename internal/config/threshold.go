package config

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Eviction says below what this machine has too little of something, each an amount such as 100Mi or a share such as 10%. 0 is never reached.
type Eviction struct {
	Memory string `toml:"memory"`
	Disk   string `toml:"disk"`
	Inodes string `toml:"inodes"`
	PIDs   string `toml:"pids"`
}

// Threshold is an amount, or when that is 0 a share of what there is, 0 to 1.
type Threshold struct {
	Amount int64
	Share  float64
}

// ParseThreshold reads one of Eviction's.
func ParseThreshold(s string) (Threshold, error) {
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(f >= 0 && f < 100) { // what is no number is neither
			return Threshold{}, fmt.Errorf("is %q; write a percentage from 0%% to below 100%%", s)
		}
		return Threshold{Share: f / 100}, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 {
		return Threshold{}, fmt.Errorf("is %q; write a quantity such as 100Mi, or a percentage such as 10%%", s)
	}
	return Threshold{Amount: q.Value()}, nil
}

func (k *checker) eviction(e *Eviction) {
	for key, value := range map[string]string{"memory": e.Memory, "disk": e.Disk, "inodes": e.Inodes, "pids": e.PIDs} {
		if _, err := ParseThreshold(value); err != nil {
			k.fail("eviction."+key, "%v", err)
		}
	}
}
