package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bindSubPath mounts sub of a volume at a place of ours. The path is walked inside the volume and what was found is
// bound by its descriptor: a container that turns a directory into a link meanwhile gets nothing of the machine.
func bindSubPath(volume, sub, at string) error {
	if filepath.IsAbs(sub) {
		return errors.New("is absolute")
	}
	for part := range strings.SplitSeq(sub, "/") {
		if part == ".." {
			return errors.New("leads out of the volume")
		}
	}
	root, err := unix.Open(volume, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(root)
	fd, err := openBeneath(root, sub)
	if errors.Is(err, unix.ENOENT) {
		if err := mkdirBeneath(root, sub); err != nil {
			return err
		}
		fd, err = openBeneath(root, sub)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unmountBelow(at); err != nil {
		return err // an earlier run's; the file behind the name may be another one now
	}
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o750); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(at, 0o750)
	} else {
		err = os.WriteFile(at, nil, 0o640)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

func openBeneath(root int, path string) (int, error) {
	return unix.Openat2(root, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// mkdirBeneath makes the missing directories of a path, each opened before the next is made in it.
func mkdirBeneath(root int, path string) error {
	var volume unix.Stat_t
	if err := unix.Fstat(root, &volume); err != nil {
		return err
	}
	mode := volume.Mode & 0o7777 // who may write to the volume may write there
	at := "."
	for part := range strings.SplitSeq(filepath.Clean(path), "/") {
		parent, err := openBeneath(root, at)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(parent, part, mode)
		if err == nil {
			err = unix.Fchmodat(parent, part, mode, 0) // whatever the umask
		}
		_ = unix.Close(parent)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make %s: %w", part, err)
		}
		at = filepath.Join(at, part)
	}
	return nil
}
