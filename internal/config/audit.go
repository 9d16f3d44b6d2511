package config

import "k8s.io/apimachinery/pkg/api/resource"

// Audit is what this machine's peer notes of requests, in data_dir/audit.
type Audit struct {
	Enabled bool   `toml:"enabled"`
	MaxSize string `toml:"max_size"` // of a file
	Keep    int    `toml:"keep"`     // so many full files
}

// Bytes is MaxSize, or 0 where that is no amount.
func (a *Audit) Bytes() int64 {
	q, err := resource.ParseQuantity(a.MaxSize)
	if err != nil {
		return 0
	}
	return q.Value()
}

func (k *checker) audit(a *Audit) {
	if a.Bytes() < 1<<20 {
		k.fail("log.audit.max_size", "is %q; write an amount of 1Mi or more, such as 64Mi", a.MaxSize)
	}
	if a.Keep < 1 {
		k.fail("log.audit.keep", "is %d; keep 1 or more", a.Keep)
	}
}
