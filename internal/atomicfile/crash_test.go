package atomicfile

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shoal/internal/crash"
)

// TestACrashLeavesTheOldFileOrTheNew kills a process that writes a file three times.
func TestACrashLeavesTheOldFileOrTheNew(t *testing.T) {
	contents := []string{"1", strings.Repeat("2", 100_000), "3"}
	write := func(dir, content string) error {
		return Write(filepath.Join(dir, "file"), 0o600, func(w io.Writer) error {
			_, err := io.WriteString(w, content)
			return err
		})
	}
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		for _, c := range contents {
			if err := write(dir, c); err != nil {
				return err
			}
			ack(c[:1])
		}
		return nil
	}, func(t *testing.T, dir string, acked []string) {
		got, err := os.ReadFile(filepath.Join(dir, "file"))
		n := len(acked)
		was := n > 0 && string(got) == contents[n-1] || n == 0 && os.IsNotExist(err)
		is := n < len(contents) && string(got) == contents[n]
		if !was && !is {
			t.Errorf("after %d writes there are %d bytes: %.10q, %v", n, len(got), got, err)
		}
		if err := write(dir, "again"); err != nil {
			t.Errorf("write again: %v", err)
		}
	})
}
