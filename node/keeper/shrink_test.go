package keeper

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyUnchangedProgramPagesAreDropped(t *testing.T) {
	const smaps = `00400000-00401000 r-xp 00000000 fe:00 1 /bin/shoal
Rss: 4 kB
Anonymous:             0 kB
00401000-00402000 r--p 00001000 fe:00 1 /bin/shoal
Anonymous:             4 kB
00402000-00403000 rw-p 00002000 fe:00 1 /bin/shoal
Anonymous:             0 kB
00403000-00405000 r--p 00003000 fe:00 1 /bin/shoal
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 2 /lib/other
Anonymous:             0 kB
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1000}, {0x403000, 0x2000}}
	got := droppable([]byte(smaps), "/bin/shoal")
	if d := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); d != "" {
		t.Error(d)
	}
	shrink() // what was dropped comes back
}
