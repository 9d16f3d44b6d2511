package pause

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProgramIsSmallAndWhole(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		b, err := For(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if len(b) > 400 || f.Progs[0].Filesz != uint64(len(b)) || f.Entry != base+headers {
			t.Errorf("%s: %d bytes, %+v", arch, len(b), f.Progs[0].ProgHeader)
		}
	}
	if _, err := For("z80"); err == nil {
		t.Error("a program for an unknown machine")
	}
}

func TestARM64Instructions(t *testing.T) {
	b, _ := For("arm64")
	word := func(i int) uint32 {
		at := b[headers+4*i:]
		return uint32(at[0]) | uint32(at[1])<<8 | uint32(at[2])<<16 | uint32(at[3])<<24
	}
	// As an assembler writes them: mov x1,sp; mov x8,#63; svc #0; cmp x0,#0; b.gt over three; mov x8,#436.
	for i, want := range map[int]uint32{
		1: 0x910003e1, 3: 0xd28007e8, 4: 0xd4000001, 5: 0xf100001f, 6: 0x5400008c, 13: 0xd2803688,
	} {
		if got := word(i); got != want {
			t.Errorf("instruction %d: %#x, want %#x", i, got, want)
		}
	}
	cmp := bytes.LastIndex(b, []byte{0x1f, 0x00, 0x00, 0xf1})
	if got := word((cmp-headers)/4 + 1); got != 0x54ffff0d {
		t.Errorf("branch %#x", got)
	}
}

// start runs the program from a file and waits until it sleeps.
func start(t *testing.T, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	b, err := ELF()
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = attr
	cmd.Stdin = strings.NewReader("x")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for !waits(t, cmd.Process.Pid) {
		if t.Context().Err() != nil {
			t.Fatal("it never slept")
		}
	}
	return cmd
}

// waits reports whether a process is in rt_sigtimedwait.
func waits(t *testing.T, pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/syscall")
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(b), " ")
	return number == strconv.Itoa(unix.SYS_RT_SIGTIMEDWAIT)
}

func TestEndsOnSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		cmd := start(t, nil)
		files, err := os.ReadDir("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/fd")
		if err != nil || len(files) != 0 {
			t.Errorf("open files %v, %v", files, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}

func TestEndsWhenNobodyRecordedIt(t *testing.T) {
	b, err := ELF()
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(path).Run(); err != nil { // its input is empty
		t.Fatal(err)
	}
}

func TestReapsAsProcess1(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := start(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	pid := strconv.Itoa(cmd.Process.Pid)
	// A shell in its process namespace leaves a child behind, which then ends as a child of process 1.
	sh := exec.Command("nsenter", "--target", pid, "--pid", "sh", "-c", "(: & exec 3>&-) & wait; exit 0")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Skipf("nsenter: %v %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		b, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		if err != nil || ctx.Err() != nil {
			t.Fatalf("children %q, %v", b, errors.Join(err, ctx.Err()))
		}
		if len(b) == 0 {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("process 1 did not end by SIGTERM: %v", err)
	}
}
