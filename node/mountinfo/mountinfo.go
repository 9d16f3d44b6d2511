// Package mountinfo reads what is mounted where this process is.
package mountinfo

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Mount is one mount.
type Mount struct {
	At     string
	Shared bool // mounts below it are seen in other namespaces, and theirs here
}

// Read returns all mounts, parents first.
func Read() ([]Mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []Mount
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 6 { // proc(5): ID PARENT DEVICE ROOT AT OPTIONS [OPTIONAL…] - TYPE …
			out = append(out, Mount{At: unescape(f[4]), Shared: strings.HasPrefix(f[6], "shared:")})
		}
	}
	return out, nil
}

// Is reports whether something is mounted at path itself.
func Is(path string) (bool, error) {
	all, err := Read()
	for _, m := range all {
		if m.At == path {
			return true, nil
		}
	}
	return false, err
}

// unescape undoes the kernel's octal escapes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
