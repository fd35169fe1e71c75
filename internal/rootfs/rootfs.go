// SPDX-License-Identifier: Apache-2.0

// Package rootfs gives a sidecar that systemd itself runs the root file system
// of an image: the layers of the image, which all share and none can change,
// and over them one of the sidecar's own, in memory, that goes with it.
//
// All is mounted in the mount namespace of the sidecar. The host sees nothing of
// it, and has nothing to clear away when the sidecar ends, however it ends.
package rootfs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// lockRetry is how long to wait before the next look at the lock.
const lockRetry = 10 * time.Millisecond

// A Bind is a directory or file of the host that a sidecar sees.
type Bind struct {
	Source, Destination string
	ReadOnly            bool
	Optional            bool // left out where there is no source
}

// ofHost is what a privileged container has of its host. /dev/log is a link to
// a socket of the journal's.
var ofHost = []Bind{
	{Source: "/dev", Destination: "/dev"},
	{Source: "/sys/fs/cgroup", Destination: "/sys/fs/cgroup"},
	{Source: "/run/systemd/journal", Destination: "/run/systemd/journal", ReadOnly: true},
	{Source: "/etc/hosts", Destination: "/etc/hosts", ReadOnly: true, Optional: true},
	{Source: "/etc/resolv.conf", Destination: "/etc/resolv.conf", ReadOnly: true, Optional: true},
	{Source: layout.NetnsDir, Destination: layout.NetnsDir},
}

// Enter has the calling thread, of what becomes the sidecar in a network
// namespace, see an image's root file system in the place of the host's, with
// binds in it, and returns what else is known of the image. The thread has to be
// locked (runtime.LockOSThread). It gets a mount namespace of its own: all that
// is mounted is gone when it is.
//
// PrivateMounts= in the unit would give it one as well. systemd goes over all
// mounts several times for that, of which a host has two for each network
// namespace.
func Enter(ctx context.Context, service, netns, name string, binds []Bind) (*Image, error) {
	image, err := find(ctx, service, netns, name)
	if err != nil {
		return nil, fmt.Errorf("looking for image %s: %w", name, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("making a mount namespace: %w", err)
	}
	all := slices.Concat(ofHost, binds)
	// What is below another's destination comes after it, as in containers.
	slices.SortStableFunc(all, func(a, b Bind) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	trees, err := take(all)
	if err != nil {
		return nil, err
	}
	if err := change(image.Layers, layout.ServiceRuntimeDir(service)); err != nil {
		return nil, fmt.Errorf("entering image %s: %w", name, err)
	}
	for _, tree := range trees {
		if err := tree.attach(); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// depth is how many directories below the root a path is.
func depth(name string) int { return strings.Count(path.Clean(name), "/") }

// A tree is what is mounted at the source of a bind, copied and not yet mounted
// anywhere.
type tree struct {
	fd int
	Bind
}

// take copies what is mounted at the sources, while they can be seen.
func take(binds []Bind) ([]tree, error) {
	var trees []tree
	for _, bind := range binds {
		fd, err := unix.OpenTree(unix.AT_FDCWD, bind.Source,
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err == unix.ENOENT && bind.Optional {
			continue
		}
		// The sidecar sees what the host mounts there, and the host nothing that
		// the sidecar does; nor is that a peer that the kernel has to look at.
		attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
		if bind.ReadOnly {
			attr.Attr_set = unix.MOUNT_ATTR_RDONLY
		}
		if err == nil {
			err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
		}
		if err != nil {
			return nil, &os.PathError{Op: "binding", Path: bind.Source, Err: err}
		}
		trees = append(trees, tree{fd, bind})
	}
	return trees, nil
}

// attach mounts a tree at its destination, which is made if it is not there.
func (t *tree) attach() error {
	if err := t.makeDestination(); err != nil {
		return fmt.Errorf("making a place for the bind of %s: %w", t.Source, err)
	}
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.Destination, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return &os.PathError{Op: "binding " + t.Source + " to", Path: t.Destination, Err: err}
	}
	return unix.Close(t.fd)
}

func (t *tree) makeDestination() error {
	_, err := os.Stat(t.Destination)
	if err == nil {
		return nil
	}
	// A link to something that is not in the image is of no use.
	if err := os.Remove(t.Destination); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var source unix.Stat_t
	if err := unix.Fstat(t.fd, &source); err != nil {
		return err
	}
	if source.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.MkdirAll(t.Destination, 0o755) // #nosec G301 -- in the image, for a helper of any user
	}
	if err := os.MkdirAll(path.Dir(t.Destination), 0o755); err != nil { // #nosec G301 -- in the image, for a helper of any user
		return err
	}
	return os.WriteFile(t.Destination, nil, 0o644) // #nosec G306 -- empty, to be mounted on
}

// change makes the layers of an image the root file system, with one more of
// its own, and lets go of the old one. It needs a directory to mount on.
func change(layers []string, dir string) error {
	// Nothing that is mounted from here on is seen by the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("parting from the host's mounts: %w", err)
	}
	// As large as what TemporaryFileSystem= makes (systemd.exec(5)).
	if err := unix.Mount("tripleo-wrappers", dir, "tmpfs", 0, "mode=0755,size=10%"); err != nil {
		return &os.PathError{Op: "mounting tmpfs on", Path: dir, Err: err}
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(name, 0o755); err != nil { // #nosec G301 -- upper becomes /, for a helper of any user
			return err
		}
	}
	// An image has dozens of layers. Their paths would not all fit into one
	// call, and may have commas in them.
	names := make([]string, len(layers))
	for i, layer := range layers {
		names[i] = strconv.Itoa(i)
		if err := os.Symlink(layer, names[i]); err != nil {
			return err
		}
	}
	options := "lowerdir=" + strings.Join(names, ":") + ",upperdir=upper,workdir=work"
	if err := unix.Mount("tripleo-wrappers", "root", "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting an overlay of %s: %w", strings.Join(layers, ":"), err)
	}
	if err := os.Chdir("root"); err != nil {
		return err
	}
	// The old root comes to lie over the new one, and is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root file system: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the host's root file system: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for _, kernel := range []struct{ kind, dir string }{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(kernel.dir, 0o755); err != nil { // #nosec G301 -- where the kernel's file systems come, open to all
			return err
		}
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount(kernel.kind, kernel.dir, kernel.kind, flags, ""); err != nil {
			return &os.PathError{Op: "mounting", Path: kernel.dir, Err: err}
		}
	}
	return nil
}

// find returns the image of that name as it is now, and keeps a record of it
// for the sidecar. While the lock is held that says that the image is in use,
// nobody lets go of it.
func find(ctx context.Context, service, netns, name string) (*Image, error) {
	lock := flock.New(layout.ImageLock(service), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	defer lock.Close()
	if _, err := lock.TryRLockContext(ctx, lockRetry); err != nil {
		return nil, err
	}
	image := known(service, name)
	if image == nil {
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
		if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
			return nil, err
		}
		// Another sidecar may have found it meanwhile.
		image = known(service, name)
	}
	if image == nil {
		var err error
		if image, err = lookUp(ctx, service, name); err != nil {
			return nil, err
		}
		if err := image.write(layout.KnownImage(service)); err != nil {
			return nil, err
		}
	}
	// The sidecar will be this process.
	image.PID = os.Getpid()
	return image, image.write(layout.ImageFile(service, netns))
}

// known returns the image that was found last if it has that name and nothing
// has changed since, else nil.
func known(service, name string) *Image {
	image, err := Read(layout.KnownImage(service))
	if err != nil || image.Name != name || image.Stamp == "" || stamp(image.Index) != image.Stamp {
		return nil
	}
	return image
}

// stamp returns what tells a file from what it was before a change. Podman
// replaces its files.
func stamp(file string) string {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d:%d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
}

// Read reads an image from a record.
func Read(file string) (*Image, error) {
	content, err := os.ReadFile(file) // #nosec G304 -- below layout.RuntimeDir, which is root's alone
	if err != nil {
		return nil, err
	}
	image := &Image{}
	if err := json.Unmarshal(content, image); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return image, nil
}

func (i *Image) write(file string) error {
	content, err := json.Marshal(i)
	if err != nil {
		return err
	}
	dir, err := beneath.Open(path.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteFile(path.Base(file), content, 0o600)
}
