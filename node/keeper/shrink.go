package keeper

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// shrink gives back what only the start of this process needed: free heap, and the pages of its own program. They are
// in the page cache and come back when touched; most of the program never is, because the keeper uses little of it.
func shrink() {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range droppable(b, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED) // a refusal costs only memory
	}
}

type mapping struct{ start, size uintptr }

// droppable returns the mappings of file that cannot be written and were not changed, as a loader may have done.
func droppable(smaps []byte, file string) []mapping {
	var out []mapping
	var now *mapping
	s := bufio.NewScanner(bytes.NewReader(smaps))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) >= 5 && strings.Contains(f[0], "-") && !strings.HasSuffix(f[0], ":") {
			now = nil
			from, to, _ := strings.Cut(f[0], "-")
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			readOnly := f[1] == "r-xp" || f[1] == "r--p"
			if err1 == nil && err2 == nil && readOnly && len(f) >= 6 && f[5] == file {
				now = &mapping{uintptr(start), uintptr(end - start)}
			}
			continue
		}
		if now != nil && len(f) == 3 && f[0] == "Anonymous:" {
			if f[1] == "0" {
				out = append(out, *now)
			}
			now = nil
		}
	}
	return out
}
