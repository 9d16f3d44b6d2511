package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"shoal/node/mountinfo"
)

// mounts returns the mount points at or below dir, parents first.
func mounts(dir string) ([]string, error) {
	all, err := mountinfo.Read()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range all {
		if m.At == dir || strings.HasPrefix(m.At, dir+"/") {
			out = append(out, m.At)
		}
	}
	return out, nil
}

// isMountPoint reports whether something is mounted at dir.
func isMountPoint(dir string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Lstat(dir, &here); err != nil {
		return false, err
	}
	if err := unix.Lstat(filepath.Dir(dir), &above); err != nil {
		return false, err
	}
	return here.Dev != above.Dev, nil
}

// ensureTmpfs mounts memory at dir, unless it is there. Size zero is the kernel's default, half of the machine's.
func ensureTmpfs(dir string, size int64, mode os.FileMode) error {
	is, err := isMountPoint(dir)
	if err != nil || is {
		return err
	}
	options := fmt.Sprintf("mode=%o", mode)
	if size > 0 {
		options += ",size=" + strconv.FormatInt(size, 10)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount memory at %s: %w", dir, err)
	}
	return nil
}

// unmountBelow unmounts everything at or below dir, the last mounted first.
func unmountBelow(dir string) error {
	const tries = 3 // mounts may be stacked, or come back from a namespace that shares ours
	for range tries {
		at, err := mounts(dir)
		if err != nil {
			return err
		}
		if len(at) == 0 {
			return nil
		}
		slices.Reverse(at)
		for _, m := range at {
			if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", m, err)
			}
		}
	}
	if at, err := mounts(dir); err != nil || len(at) > 0 {
		return errors.Join(err, fmt.Errorf("still mounted: %v", at))
	}
	return nil
}
