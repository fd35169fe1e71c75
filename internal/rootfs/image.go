// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

// An Image is what is known of an image. It is kept as JSON.
type Image struct {
	Name       string
	ID         string   `json:",omitempty"`
	Layers     []string // directories, the uppermost first
	WorkingDir string
	Env        []string `json:",omitempty"` // NAME=VALUE
	// Index is the file that Podman replaces with every change of any image,
	// and Stamp tells which one it was. A directory has none.
	Index string `json:",omitempty"`
	Stamp string `json:",omitempty"`
	// PID is the sidecar that uses it.
	PID int `json:",omitempty"`
}

// lookUp asks Podman for an image, which is pulled if it is not there, as
// podman run does. That takes a few calls, and is done once for an image.
func lookUp(ctx context.Context, service, name string) (*Image, error) {
	if dir, ok := strings.CutPrefix(name, layout.RootDirectory); ok {
		return &Image{Name: name, Layers: []string{dir}, WorkingDir: "/"}, nil
	}
	index, err := podman(ctx, "info", "--format={{.Store.GraphRoot}}/{{.Store.GraphDriverName}}-images/images.json")
	if err != nil {
		return nil, err
	}
	image := &Image{Name: name, Index: index, Stamp: stamp(index)}
	description, err := podman(ctx, "image", "inspect", name)
	if err != nil {
		if err := pull(ctx, name); err != nil {
			return nil, err
		}
		image.Stamp = stamp(index)
		if description, err = podman(ctx, "image", "inspect", name); err != nil {
			return nil, err
		}
	}
	if err := image.describe(description); err != nil {
		return nil, err
	}
	if err := hold(ctx, service, image.ID); err != nil {
		return nil, err
	}
	if err := release(ctx, service, image.ID); err != nil {
		// An old image that stays is no reason not to start in the new one.
		fmt.Fprintf(os.Stderr, "tripleo-wrapper: letting go of old images of %s: %v\n", service, err)
	}
	return image, nil
}

// describe takes over what podman image inspect says.
func (i *Image) describe(description string) error {
	var images []struct {
		ID     string `json:"Id"`
		Config struct {
			Env        []string
			WorkingDir string
		}
		GraphDriver struct {
			Name string
			Data struct{ UpperDir, LowerDir string }
		}
	}
	if err := json.Unmarshal([]byte(description), &images); err != nil {
		return fmt.Errorf("reading what podman image inspect says: %w", err)
	}
	if len(images) != 1 || images[0].ID == "" {
		return fmt.Errorf("podman image inspect says nothing of it")
	}
	i.ID, i.Env, i.WorkingDir = images[0].ID, images[0].Config.Env, images[0].Config.WorkingDir
	if i.WorkingDir == "" {
		i.WorkingDir = "/"
	}
	driver := images[0].GraphDriver
	if driver.Data.UpperDir == "" {
		return fmt.Errorf("it is kept with the storage driver %q, which has no layers to mount; "+
			"use overlay, or unpack the image and write dir:/path", driver.Name)
	}
	i.Layers = []string{driver.Data.UpperDir}
	if driver.Data.LowerDir != "" {
		i.Layers = append(i.Layers, strings.Split(driver.Data.LowerDir, ":")...)
	}
	return nil
}

// pull pulls an image by the host's network, not by that of the sidecar, in
// whose namespace systemd runs us and to which the thread returns: it will be
// the sidecar. The calling thread has to be locked.
func pull(ctx context.Context, name string) (err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	host, err := os.Open("/proc/1/ns/net")
	if err != nil {
		return err
	}
	defer host.Close()
	if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the host's network namespace: %w", err)
	}
	defer func() {
		if backErr := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); backErr != nil {
			err = errors.Join(err, fmt.Errorf("returning to the sidecar's network namespace: %w", backErr))
		}
	}()
	_, err = podman(ctx, "pull", "--quiet", name)
	return err
}

// heldFor is the label of the volumes that hold the images of a service.
const heldFor = "org.openstack.tripleo.wrappers.service"

// hold makes a volume of an image, which is a use of it. Else, when a newer image
// has its name, podman image prune would take the files of the old one from
// under the sidecars that still run in it. podman image mount, or a container
// that was created and never started, is not enough to keep it from that.
func hold(ctx context.Context, service, id string) error {
	volume := layout.ImageVolume(service, id)
	if _, err := podman(ctx, "volume", "exists", volume); err == nil {
		return nil
	}
	_, err := podman(ctx, "volume", "create", "--driver=image", "--opt=image="+id, "--label="+heldFor+"="+service, volume)
	return err
}

// release lets go of the images of a service that no sidecar uses any more.
func release(ctx context.Context, service, current string) error {
	volumes, err := podman(ctx, "volume", "ls", "--quiet", "--filter=label="+heldFor+"="+service)
	if err != nil {
		return err
	}
	held := []string{layout.ImageVolume(service, current)}
	records, err := filepath.Glob(layout.ImageFile(service, "*"))
	if err != nil {
		return err
	}
	for _, record := range records {
		netns := strings.TrimSuffix(filepath.Base(record), filepath.Ext(record))
		image, err := Read(record)
		if err != nil {
			continue
		}
		if unit, err := proc.Unit(image.PID); err == nil && unit == layout.SidecarUnit(service, netns) {
			held = append(held, layout.ImageVolume(service, image.ID))
		}
	}
	for volume := range strings.FieldsSeq(volumes) {
		if slices.Contains(held, volume) {
			continue
		}
		if _, err := podman(ctx, "volume", "rm", volume); err != nil {
			return err
		}
	}
	return nil
}

// podman runs Podman and returns what it prints.
func podman(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "podman", args...) // #nosec G204 -- no shell; fixed words, checked names, ids
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("podman %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(output)), nil
}
