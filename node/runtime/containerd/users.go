package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/user"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// users is an image's own idea of users and groups. Both may be empty.
type users struct{ passwd, group []byte }

// account is who a container's processes are.
type account struct {
	uid, gid uint32
	groups   []uint32
}

// readUsers reads them from a root filesystem that is not mounted: the layers are directories of this machine.
func readUsers(rootfs []mount.Mount) *users {
	dirs := layers(rootfs)
	return &users{passwd: readLayered(dirs, "etc/passwd"), group: readLayered(dirs, "etc/group")}
}

// layers returns the directories of a root filesystem, the uppermost first.
func layers(rootfs []mount.Mount) []string {
	var dirs []string
	for _, m := range rootfs {
		switch m.Type {
		case "bind":
			dirs = append(dirs, m.Source)
		case "overlay":
			for _, o := range m.Options {
				if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
					dirs = append(dirs, strings.Split(v, ":")...)
				}
			}
		}
	}
	return dirs
}

// readLayered reads the uppermost version of a small file; nil if there is none. Links do not leave their layer.
func readLayered(dirs []string, path string) []byte {
	for _, dir := range dirs {
		b, err := readIn(dir, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return b // an error is as good as no file: a deleted one is a device here
	}
	return nil
}

func readIn(dir, path string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4<<20))
}

// who decides a container's user and groups from its own and its pod's security context and the image's user.
func who(c runtime.ContainerConfig, image string, u *users) (account, error) {
	pod, own := c.PodSecurity, c.Security
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	uid, gid := first(own.RunAsUser, pod.RunAsUser), first(own.RunAsGroup, pod.RunAsGroup)
	spec := image
	if uid != nil {
		spec = strconv.FormatInt(*uid, 10)
	}
	if gid != nil {
		name, _, _ := strings.Cut(spec, ":")
		if name == "" {
			name = "0"
		}
		spec = name + ":" + strconv.FormatInt(*gid, 10)
	}
	if nonRoot := first(own.RunAsNonRoot, pod.RunAsNonRoot); nonRoot != nil && *nonRoot {
		if err := checkNonRoot(uid, image); err != nil {
			return account{}, err
		}
	}
	found, err := user.GetExecUser(spec, nil, bytes.NewReader(u.passwd), bytes.NewReader(u.group))
	if err != nil {
		return account{}, fmt.Errorf("user %q of the image: %w", spec, err)
	}
	a := account{uid: uint32(found.Uid), gid: uint32(found.Gid)}
	// The group of the process is also one of its groups: otherwise dropping it would gain rights where it is denied some.
	a.groups = append(a.groups, a.gid)
	for _, g := range found.Sgids {
		if p := pod.SupplementalGroupsPolicy; p != nil && *p == corev1.SupplementalGroupsPolicyStrict {
			break // what the image says of its users is not asked for
		}
		a.groups = append(a.groups, uint32(g))
	}
	for _, g := range pod.SupplementalGroups {
		a.groups = append(a.groups, uint32(g))
	}
	if pod.FSGroup != nil {
		a.groups = append(a.groups, uint32(*pod.FSGroup))
	}
	slices.Sort(a.groups)
	a.groups = slices.Compact(a.groups)
	return a, nil
}

// checkNonRoot refuses what would, or could, run as root.
func checkNonRoot(uid *int64, image string) error {
	if uid != nil {
		if *uid == 0 {
			return errors.New("container's runAsUser breaks non-root policy")
		}
		return nil
	}
	name, _, _ := strings.Cut(image, ":")
	n, err := strconv.ParseInt(name, 10, 64)
	switch {
	case name == "" || err == nil && n == 0:
		return errors.New("container has runAsNonRoot and image will run as root")
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)
	}
	return nil
}

func first[T any](own, pod *T) *T {
	if own != nil {
		return own
	}
	return pod
}
