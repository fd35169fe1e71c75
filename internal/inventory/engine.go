package inventory

import (
	"bytes"
	"context"
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
