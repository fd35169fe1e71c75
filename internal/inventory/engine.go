// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

// engineTimeout bounds one call of a container engine.
const engineTimeout = 30 * time.Second

// containers returns the containers that a service's engine knows, running or
// not: the ids of their images, by their names.
func containers(ctx context.Context, service *conf.Service) (map[string]string, error) {
	listing := []string{"ps", "--all", "--no-trunc", "--format={{.Names}} {{.ImageID}}"}
	if service.Engine == conf.Docker {
		// Docker lists the names of images, which say nothing of their versions.
		ids, err := engine(ctx, service, "ps", "--all", "--quiet")
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		listing = append([]string{"container", "inspect", "--format={{.Name}} {{.Image}}"}, ids...)
	}
	lines, err := engine(ctx, service, listing...)
	var exit *exec.ExitError
	if err != nil && (service.Engine != conf.Docker || !errors.As(err, &exit)) {
		return nil, err
	} // else one of them is gone by now
	images := map[string]string{}
	for _, line := range lines {
		name, image, _ := strings.Cut(line, " ")
		images[strings.TrimPrefix(name, "/")] = image
	}
	return images, nil
}

// A Container is one that runs, whoever started it.
type Container struct {
	ID, Name string
	PID      int       // its first process
	Monitor  int       // Podman's conmon that watches it; 0 for Docker
	Started  time.Time // when it was started
	Command  []string  // what it was told to run
}

// RunningContainers returns the containers that run and whose name a service's
// engine says is one of those that chosen accepts.
func RunningContainers(ctx context.Context, service *conf.Service, chosen func(name string) bool) ([]Container, error) {
	lines, err := engine(ctx, service, "ps", "--no-trunc", "--format={{.ID}} {{.Names}}")
	if err != nil {
		return nil, err
	}
	inspect := []string{"container", "inspect"}
	for _, line := range lines {
		id, name, _ := strings.Cut(line, " ")
		if chosen(name) {
			inspect = append(inspect, id)
		}
	}
	if len(inspect) == 2 {
		return nil, nil
	}
	lines, err = engine(ctx, service, inspect...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	} // else one of them is gone by now, and the others are told of
	var told []struct {
		ID, Name, Path string
		Args           []string
		State          struct {
			Running        bool
			Pid, ConmonPid int
			StartedAt      time.Time
		}
	}
	if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), &told); err != nil {
		return nil, fmt.Errorf("reading what %s says of its containers: %w", service.Engine, err)
	}
	var all []Container
	for _, c := range told {
		if !c.State.Running {
			continue
		}
		all = append(all, Container{
			ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), PID: c.State.Pid, Monitor: c.State.ConmonPid,
			Started: c.State.StartedAt, Command: append([]string{c.Path}, c.Args...),
		})
	}
	return all, nil
}

// RenameContainer gives a container another name, and removes one that has that
// name and does not run.
func RenameContainer(ctx context.Context, service *conf.Service, id, name string) error {
	_, _ = engine(ctx, service, "rm", name) // mostly there is none; what runs is left alone
	_, err := engine(ctx, service, "rename", id, name)
	return err
}

// ImageID returns the id of the image that a container of a service would be
// made from now. The error of an image that is not there is ErrNoImage.
func ImageID(ctx context.Context, service *conf.Service) (string, error) {
	lines, err := engine(ctx, service, "image", "inspect", "--format={{.Id}}", service.Image)
	// The exit status is the same for a daemon of Docker that does not answer.
	if err != nil && noImage.MatchString(err.Error()) {
		return "", ErrNoImage
	}
	if err != nil {
		return "", fmt.Errorf("looking for image %s: %w", service.Image, err)
	}
	if len(lines) != 1 {
		return "", fmt.Errorf("looking for image %s: %d answers", service.Image, len(lines))
	}
	return lines[0], nil
}

// noImage matches what Docker and Podman say of an image that is not there.
var noImage = regexp.MustCompile(`(?i)no such image|image not known`)

// ErrNoImage is returned for an image that is not on the host.
var ErrNoImage = errors.New("the image is not on this host")

// engine calls a service's container engine and returns the lines that it
// prints, those before an error too.
func engine(ctx context.Context, service *conf.Service, args ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	// #nosec G204 -- no shell; podman or docker, with fixed words, checked names and ids
	command := exec.CommandContext(ctx, string(service.Engine), args...)
	if len(service.DockerSockets) > 0 {
		command.Env = append(os.Environ(), "DOCKER_HOST=unix://"+service.DockerSockets[0])
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	lines := slices.DeleteFunc(strings.Split(string(output), "\n"), func(line string) bool { return line == "" })
	if err != nil {
		err = fmt.Errorf("%s %s: %w", service.Engine, args[0], err)
		if said := strings.TrimSpace(stderr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said[strings.LastIndex(said, "\n")+1:])
		}
		return lines, err
	}
	return lines, nil
}
