// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/label"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/role"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/shell"
)

// maxClient is more than the client has, in bytes.
const maxClient = 16 << 20

// Prepare lays out what an agent needs of a service, below service_dir: the
// wrapper, the copy of the client that it runs, and the kill script. It runs
// before the activation socket is made. What is there already and is right is
// left alone, so an agent that has it mounted goes on using it.
func Prepare(service *options.Service) error {
	client, err := os.ReadFile(layout.ClientBinary())
	if err == nil {
		err = prepare(service, client)
	}
	if err != nil {
		return fmt.Errorf("laying out %s: %w; when that is mended: systemctl restart %s",
			layout.StateDir(service.Dir, service.Name), err, layout.SocketUnit(service.Name))
	}
	// Where this cannot be kept, an operator's reload does it once more.
	if err := os.MkdirAll(layout.ServiceRuntimeDir(service.Name), 0o700); err == nil {
		_ = os.WriteFile(layout.PreparedFile(service.Name), preparedWith(service, client), 0o600)
	}
	return nil
}

// Prepared says whether that was done with the options that a service has now
// and with the client that is installed now.
func Prepared(service *options.Service) bool {
	with, err := os.ReadFile(layout.PreparedFile(service.Name))
	if err != nil {
		return false
	}
	client, err := os.ReadFile(layout.ClientBinary())
	return err == nil && bytes.Equal(with, preparedWith(service, client))
}

// Faults returns what is not there any more, or is not as the start of the
// activation socket made it, in words. What cannot be looked at for want of
// rights is no fault.
func Faults(service *options.Service) []string {
	var faults []string
	find := func(name string, err error) {
		switch {
		case err == nil || errors.Is(err, os.ErrPermission):
		case errors.Is(err, os.ErrNotExist):
			faults = append(faults, name+" is missing")
		default:
			faults = append(faults, err.Error())
		}
	}
	top, err := beneath.Open(service.Dir)
	if err != nil {
		find(service.Dir, err)
		return faults
	}
	defer top.Close()
	state, err := top.Sub(service.Name)
	if err != nil {
		find(path.Join(service.Dir, service.Name), err)
		return faults
	}
	defer state.Close()
	check := func(name string, content []byte) {
		present, _, err := top.ReadFile(name, maxClient)
		mode, modeErr := top.Mode(name)
		full := path.Join(service.Dir, name)
		switch {
		case (err != nil || modeErr != nil) && !errors.Is(err, beneath.ErrUnfit):
			find(full, cmp.Or(err, modeErr))
		case err != nil || !bytes.Equal(present, content):
			faults = append(faults, full+" is not the one that this version makes of the definition")
		case mode != 0o755:
			faults = append(faults, fmt.Sprintf("%s has mode %04o, which has to be 0755", full, mode))
		}
	}
	check(path.Join(service.Name, layout.Wrapper), wrapperScript(service))
	if client, err := os.ReadFile(layout.ClientBinary()); err == nil {
		check(path.Join(service.Name, layout.Client), client)
	}
	if service.KillScript != "" {
		check(path.Join(layout.KillScripts, service.KillScript), killScript(service.Dir))
	}
	if there, err := state.Exists(layout.Socket); err == nil && !there {
		find(path.Join(state.Path(), layout.Socket), os.ErrNotExist)
	}
	return faults
}

func preparedWith(service *options.Service, client []byte) []byte {
	sum := sha256.Sum256(client)
	return []byte(strings.Join(append(service.Args(), hex.EncodeToString(sum[:])), "\x00"))
}

func prepare(service *options.Service, client []byte) error {
	if err := os.MkdirAll(service.Dir, 0o755); err != nil { // #nosec G301 -- agents run programs in it, as any user
		return err
	}
	top, err := beneath.Open(service.Dir)
	if err != nil {
		return err
	}
	defer top.Close()
	state, err := top.MakeSub(service.Name, 0o755)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := put(state, layout.Client, client); err != nil {
		return err
	}
	if err := put(state, layout.Wrapper, wrapperScript(service)); err != nil {
		return err
	}
	if service.KillScript != "" {
		scripts, err := top.MakeSub(layout.KillScripts, 0o755)
		if err != nil {
			return err
		}
		defer scripts.Close()
		if err := put(scripts, service.KillScript, killScript(service.Dir)); err != nil {
			return err
		}
	}
	return setLabels(service, label.Host())
}

// Label gives the files of a service the SELinux type that agents' containers may
// use: those that Prepare made, and the activation socket, which systemd has made
// by now.
func Label(service *options.Service) error { return setLabels(service, label.Host()) }

// setLabels does so for what there is. Files that are made later get the type of
// the directory that they are in.
func setLabels(service *options.Service, labels *label.Labels) error {
	top, err := beneath.Open(service.Dir)
	if err != nil {
		return err
	}
	defer top.Close()
	names := []string{".", service.Name}
	for _, name := range []string{
		layout.Client, layout.Wrapper, layout.Socket, layout.Spool, layout.SpoolTimestamp, layout.SpoolLock, layout.SpoolFailed,
	} {
		names = append(names, path.Join(service.Name, name))
	}
	if service.KillScript != "" {
		names = append(names, layout.KillScripts, path.Join(layout.KillScripts, service.KillScript))
	}
	return labels.Files(top, names...)
}

// put writes an executable file unless it is there already.
func put(dir *beneath.Dir, name string, content []byte) error {
	present, _, err := dir.ReadFile(name, maxClient)
	if err == nil {
		mode, err := dir.Mode(name)
		if err == nil && mode == 0o755 && bytes.Equal(present, content) {
			return nil
		}
		if err == nil {
			err = role.KeepScript(path.Join(dir.Path(), name), present, mode)
		}
		if err != nil {
			return fmt.Errorf("keeping a copy of what the Ansible role left: %w", err)
		}
	}
	err = dir.WriteFile(name, content, 0o755)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w; move it away", err)
	}
	return err
}

// wrapperScript is what is mounted over the helper's binary in the agent's
// container.
func wrapperScript(service *options.Service) []byte {
	words := []string{layout.StateDir(service.Dir, service.Name) + "/" + layout.Client, "wrapper"}
	words = append(words, service.ClientArgs()...)
	return fmt.Appendf(nil, "#!/bin/sh\nexec %s -- \"$@\"\n", shell.Quote(words...))
}

// killScript is the same for all services of a service_dir, since several may
// share one. It runs whichever client it finds.
func killScript(serviceDir string) []byte {
	return fmt.Appendf(nil, `#!/bin/sh
for client in %[1]s/*/%[2]s; do
	[ -x "$client" ] && exec "$client" kill --service-dir=%[1]s -- "$@"
done
echo "kill script: no client in %[1]s/*/%[2]s; is %[1]s the host's? On the host: %[3]s status" >&2
exit 1
`, shell.Quote(serviceDir), layout.Client, layout.ControlProgram)
}
