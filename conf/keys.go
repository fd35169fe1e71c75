// SPDX-License-Identifier: Apache-2.0

package conf

import "strings"

// A Key is a key that a definition may have.
type Key struct {
	// Name is dotted for the keys of a table: "ready.timeout". The line
	//	Name = Example
	// is a line that a definition can have.
	Name string
	// Type says in words what values the key takes.
	Type string
	// Values lists the values of a string key that takes only these.
	Values []string
	// Required is set for a key that each definition must have.
	Required bool
	// Default is the value that stands for a key that is left out, as TOML, or
	// words in round brackets where it is not a constant. It is empty for a
	// required key.
	Default string
	// Meaning is one line.
	Meaning string
	// Details is what else there is to know, in paragraphs of Markdown, for the
	// manual page and for editors.
	Details string
	// Example is a value as TOML, other than the default.
	Example string
	// Since is the first version that has the key.
	Since string

	// decode checks a value and puts it into the draft's service.
	decode func(d *draft, k *Key, value any)
	// schema says what decode checks, as far as JSON Schema has words for it.
	schema schema
}

// Keys are all keys of a definition, in the order in which a reader wants to
// learn them. Decoding, the manual page and the JSON schema all follow it.
var Keys = []Key{
	{
		Name: "service_name", Type: "string", Default: "(the file's base name)",
		Meaning: "Name of the service; the names of its units and containers come from it.",
		Details: `The units **NAME.socket**, **NAME.path**, **NAME.service** and **NAME@NETNS.service**, the
containers **NAME-NETNS** and the directory **SERVICE_DIR/NAME** are called after it.

It has letters, digits and the characters **_.-**, begins with a letter or a digit, and has at most 100 bytes. It is
not **kill_scripts**, and not the name of a unit that a package has installed, such as **haproxy**, whose place the
generated one would take. Of two definitions with the same name, the one whose file has that name keeps it, otherwise
the first by file name; the other one is broken.

A container that has the name of a sidecar's is removed when that one starts, and agents name network namespaces: call
no other container of the host **NAME-**something. Two services with containers of one engine, or both with **log =
"file"**, that are called **NAME** and **NAME-**something need the same **service_dir**.`,
		Example: `"neutron-dnsmasq"`,
		Since:   "0.1.0",
		decode:  (*draft).serviceName,
		schema:  serviceNameSchema,
	},
	{
		Name: "service_dir", Type: "absolute path", Required: true,
		Meaning: "Directory of the state files, at the same path in the agent's container.",
		Details: `For Neutron it is **/var/lib/neutron**. It is made if it is not there. Containers of sidecars have
it mounted, with shared propagation. A pid file that says that a sidecar is ready has to be below it.

The path has letters, digits and the characters **/_.@+=,~-**, no part that is **..**, and is not **/**. It is not in
**/dev**, **/home**, **/proc**, **/root**, **/run/user**, **/sys**, **/tmp** or **/var/tmp**, which the activator does not
see as others do, and not below the **service_dir** of another service, whose agent could put a link in the place of it.
That of the activation socket, **SERVICE_DIR/SERVICE_NAME/activator.sock**, can have at most 107 bytes.`,
		Example: `"/var/lib/neutron"`,
		Since:   "0.1.0",
		decode:  (*draft).serviceDir,
		schema:  serviceDirSchema,
	},
	{
		Name: "cmd", Type: "string (shell text) or list of strings (argument list)", Required: true,
		Meaning: "Command of the sidecar; the arguments of the wrapper's caller are appended.",
		Details: `It has to stay in the foreground, as **dnsmasq -k** does, so that systemd watches the process
itself. In a container it is a program of the image, otherwise one of the host.

A list is run as it is, without a shell. A string of nothing but letters, digits, blanks and **_@%+=:,./-** is split
at the blanks, and run without a shell as well.

Any other string is text for **/bin/sh -c**. The caller's arguments are put behind it as **"$@"**, and an **exec**
before its command, so that no shell stays between systemd and the process. Text that runs several commands has to
say by an **exec** of its own which one the arguments are for; that one has to be the last.`,
		Example: `"/usr/sbin/dnsmasq -k"`,
		Since:   "0.1.0",
		decode:  (*draft).cmd,
		schema:  cmdSchema,
	},
	{
		Name: "container_cli", Type: "string", Values: engines, Default: `"podman"`,
		Meaning: "What runs the sidecars; systemd itself needs no image and no container tool.",
		Details: `With **podman** or **docker**, a sidecar is a container. Its process is root's, in the caller's
network namespace and the host's pid namespace. **SERVICE_DIR**, **/run/netns** and **/dev/log** are mounted in it. The
container is removed when it ends.

Docker joins no network namespace by its name, so **ip netns exec** of the image does that: the image needs **ip**(8).
Sidecars outlive a restart of Docker's daemon where that has **"live-restore": true**; otherwise they are started again
with it, as **restart** says. Limits are set by **container_options**, not by **systemctl edit**.

With **systemd**, a sidecar is a program of the host itself, run in the caller's network namespace, and in the root
file system of **image_name** if there is one.`,
		Example: `"systemd"`,
		Since:   "0.1.0",
		decode:  (*draft).containerCLI,
	},
	{
		Name: "image_name", Type: "string", Default: "(none; required for podman and docker)",
		Meaning: "Container image; for systemd also dir:/path of a root file system.",
		Details: `An image that is not there is pulled at the first start, within the time that **ready.timeout**
gives it. Pull it beforehand.

With **container_cli = "systemd"** the command runs in the image's root file system, without a container. The image is
one of Podman's, whose storage has to be on overlay, or a directory. What the sidecar writes in it is kept in memory,
and goes with the sidecar. The next start is in the image that has the name by then; a sidecar that runs keeps its own.
**ENV** and **WORKDIR** of the image are kept; **ENTRYPOINT**, **CMD** and **USER** are not used. The IPC and UTS
namespaces are the host's, there are no variables **container** and **HOSTNAME**, and the limit of open files is that of
units, **1024:524288** unless **LimitNOFILE=** says otherwise, not the **1048576:1048576** of Podman's containers.`,
		Example: `"quay.io/tripleomastercentos9/openstack-neutron-dhcp-agent:current-tripleo"`,
		Since:   "0.1.0",
		decode:  (*draft).imageName,
		schema:  imageNameSchema,
	},
	{
		Name: "join", Type: "string", Default: "(none)",
		Meaning: "Service in whose sidecar of the same network namespace the command runs.",
		Details: `For a helper that belongs to another one, as **neutron-keepalived-state-change** does to
keepalived. The sidecar is a unit of its own, run by systemd itself, with a journal, signals and restarts of its own.
It sees what the other's sidecar sees: its file system, environment and IPC, and has its capabilities. It ends with
the other's sidecar, whether that is stopped, restarted or replaced. It is not brought back by that; the agent has to
ask for it again, which Neutron's process monitor does within a minute.

A call that comes while the other's sidecar does not run is spooled, and returns 0 at once: Neutron calls
**neutron-keepalived-state-change** before keepalived, and a wait or an error would break the router. The request is
tried again for half a minute.

What the other's definition says is not said again: beside **join** there can be no **container_cli**, **image_name**,
**config_bind_mount**, **bind_mounts**, **docker_additional_sockets**, **container_options** and **privileged**. The
other definition has to be there, in order, and without a **join** of its own.`,
		Example: `"neutron-keepalived"`,
		Since:   "0.1.0",
		decode:  (*draft).join,
		schema:  joinSchema,
	},
	{
		Name: "run", Type: "list of lists of strings", Default: "[]",
		Meaning: "Arguments of control commands, which are run once in the running sidecar and start none.",
		Details: `For a helper that is commanded by calling its program again, as **conntrackd -C FILE -k** stops
conntrackd. A call of the wrapper whose arguments have all words of one of the lists in them, one behind the other, is
a control command. **cmd** is run once with these arguments, with what the sidecar sees, as a unit of its own. The
wrapper passes on what it writes to standard output and standard error, at most 256 KiB each, and its exit status. It
has the time that **ready.timeout** gives. Where no sidecar runs, the call fails. A control command is never
spooled: while the activation socket is away the wrapper asks again, for as long as **ready.timeout** says.

A call from no named network namespace is for the one sidecar of the service whose own arguments have the words that
are left when those of the list are taken away: Neutron calls **conntrackd -C FILE -n** without **ip netns exec**.

The agent's container has to be started again when this changes, as with each change of the wrapper.`,
		Example: `[["-n"], ["-k"]]`,
		Since:   "0.1.0",
		decode:  (*draft).run,
		schema:  runSchema,
	},
	{
		Name: "config_bind_mount", Type: "string SRC:DST[:OPTS]", Default: "(none)",
		Meaning: "Bind mount of the configuration.",
		Details: `Both paths are absolute, and no part of them is **..**. OPTS are mount options with commas between
them, as in **ro,z**. Podman and Docker are given the mount as it is (**--volume**). With **container_cli = "systemd"**
it becomes **BindPaths=** of the sidecar's unit, or **BindReadOnlyPaths=** if **ro** is among the options; no other
option has an effect. Where there is an image, it is bound in the image's root file system.`,
		Example: `"/var/lib/config-data/puppet-generated/neutron/etc/neutron:/etc/neutron:ro"`,
		Since:   "0.1.0",
		decode:  (*draft).configBindMount,
		schema:  configBindMountSchema,
	},
	{
		Name: "bind_mounts", Type: "list of strings SRC:DST[:OPTS]", Default: "[]",
		Meaning: "Further bind mounts.",
		Details: `Each has the form of **config_bind_mount**. No two mounts can have the same destination.`,
		Example: `["/run/openvswitch:/run/openvswitch:z"]`,
		Since:   "0.1.0",
		decode:  (*draft).bindMounts,
		schema:  bindMountsSchema,
	},
	{
		Name: "docker_additional_sockets", Type: "list of absolute paths", Default: "[]",
		Meaning: "Additional sockets of Docker; the first one becomes DOCKER_HOST.",
		Details: `**docker** is called with **DOCKER_HOST=unix://** and the path of the first one. The others have no
effect.`,
		Example: `["/var/lib/openstack/docker.sock"]`,
		Since:   "0.1.0",
		decode:  (*draft).dockerSockets,
		schema:  dockerSocketsSchema,
	},
	{
		Name: "service_kill_script", Type: "file name", Default: "(none)",
		Meaning: "Name of the kill script; several services of one service_dir may share it.",
		Details: `The script is put into **SERVICE_DIR/kill_scripts**, which is mounted where Neutron looks for
kill scripts, */etc/neutron/kill_scripts* unless **kill_scripts_path** in its configuration says otherwise. It looks for
the name of the program and **-kill**: **dnsmasq-kill**, **haproxy-kill**, **keepalived-kill**, **radvd-kill**. Where
there is none, an agent sends its signals by itself, which works where it has the host's pid namespace.

The name has letters, digits and the characters **_.-**, and begins with a letter or a digit.`,
		Example: `"dnsmasq-kill"`,
		Since:   "0.1.0",
		decode:  (*draft).killScript,
		schema:  killScriptSchema,
	},
	{
		Name: "debug", Type: "boolean", Default: "false",
		Meaning: "Debug logging for the service's activator and sidecars.",
		Details: `Podman or Docker is run with **--log-level=debug**, and the activator writes messages of that level to
the journal.`,
		Example: "true",
		Since:   "0.1.0",
		decode:  (*draft).debug,
		schema:  booleanSchema,
	},
	{
		Name: "container_options", Type: "list of strings", Default: "[]",
		Meaning: "Options of podman run or docker run, passed before the image.",
		Details: `The first one begins with a dash. Those that are needed to watch the container are the unit's own
and are refused here: **--cgroups**, **--cidfile**, **--detach** and **-d**, **--log-driver**, **--name**,
**--network** and **--net**, **--pid**, **--replace**, **--restart**, **--rm**, **--sdnotify**.

There can be none with **container_cli = "systemd"**; **systemctl edit SERVICE_NAME@.service** does the same there.`,
		Example: `["--pids-limit=100"]`,
		Since:   "0.1.0",
		decode:  (*draft).containerOptions,
		schema:  containerOptionsSchema,
	},
	{
		Name: "privileged", Type: "boolean", Default: "true",
		Meaning: "Whether containers are privileged.",
		Details: `Podman or Docker is run with **--privileged**. With **container_cli = "systemd"**, **false** leaves a
sidecar the capabilities of an unprivileged container, but not its walls: without an image it has the host's files, and
with one its devices. With **docker**, an unprivileged container needs
**container_options = ["--cap-add=SYS_ADMIN"]** to join its network namespace.`,
		Example: "false",
		Since:   "0.1.0",
		decode:  (*draft).privileged,
		schema:  booleanSchema,
	},
	{
		Name: "restart", Type: "string", Values: restarts, Default: `"on-failure"`,
		Meaning: "When a sidecar that ended is started again, as Restart= in systemd.service(5).",
		Details: `It comes back after a second, as often as it takes, with the arguments that it had. A sidecar that
was killed by KILL or TERM is not started again, be it by the kernel, when memory runs out, and neither is one whose
network namespace is gone or has been made again. With **always** and **on-success**, one that ends with status 0
when somebody sends it TERM is started again, except by the kill script.`,
		Example: `"no"`,
		Since:   "0.1.0",
		decode:  (*draft).restart,
	},
	{
		Name: "log", Type: "string", Values: logs, Default: `"journal"`,
		Meaning: "Where the sidecars' output goes: the journal, or a file per sidecar in /var/log/containers/stdouts.",
		Details: `With **file**, output goes to **/var/log/containers/stdouts/SERVICE_NAME-NETNS.log**, which is not
rotated by anything here. The error of a start that failed then lacks the last lines that the sidecar wrote.`,
		Example: `"file"`,
		Since:   "0.1.0",
		decode:  (*draft).log,
	},
	{
		Name: "pass_environment", Type: "list of variable names", Default: `["PROCESS_TAG"]`,
		Meaning: "Environment variables of the wrapper's caller that the sidecar gets.",
		Details: `Neutron's agents mark their processes with **PROCESS_TAG**. A variable that the caller does not have
is not passed. Names are refused that could change what Podman, Docker, systemd or a shell does as root on the host:
**PATH**, **HOME**, those that begin with **LD_** or **CONTAINER_**, those that end in **_proxy**, and more.`,
		Example: `["PROCESS_TAG", "LANG"]`,
		Since:   "0.1.0",
		decode:  (*draft).passEnvironment,
		schema:  passEnvironmentSchema,
	},
	{
		Name: "allowed_uids", Type: "list of integers", Default: "[0]",
		Meaning: "Users that may start and signal sidecars, by number.",
		Details: `The number is the host's, whatever it is in the caller's user namespace. Leave 0 in the list:
**tripleo-wrapperctl sync** asks as root. With **[0]** the activation socket has mode 0600, with any other list 0666,
and each caller is checked.`,
		Example: "[0, 42435]",
		Since:   "0.1.0",
		decode:  (*draft).allowedUIDs,
		schema:  allowedUIDsSchema,
	},
	{
		Name: "idle_timeout", Type: "duration", Default: `"30s"`,
		Meaning: "How long the activator stays after its last request.",
		Details: `It stays for a second at least. systemd starts it again for the next request, which takes some 0.1 s,
and 1 ms more for each mount of the host; each network namespace has two. With hundreds of sidecars, set an hour: an
activator has some 10 MB. Sidecars do not depend on it.`,
		Example: `"5min"`,
		Since:   "0.1.0",
		decode:  (*draft).idleTimeout,
		schema:  durationSchema,
	},
	{
		Name: "ready.pid_file_option", Type: "list of options", Default: "[]",
		Meaning: "Options of the command that name its pid file; the sidecar is ready when that file is there.",
		Details: `Each of them that a call has is looked at, in the forms **--option=FILE**, **--option FILE**, **-o
FILE** and **-oFILE**. The file has to be below **service_dir**, and to name a live process of this sidecar.
What else is waited for is in **tripleo-wrappers**(7), READINESS.

A sidecar without a pid file to wait for, because of its definition or because of the call, is ready when its
process has lived for half a second.`,
		Example: `["--pid-file", "-x"]`,
		Since:   "0.1.0",
		decode:  (*draft).readyPIDFileOption,
		schema:  pidFileOptionSchema,
	},
	{
		Name: "ready.pid_file", Type: "absolute path", Default: "(none)",
		Meaning: "Pid file below service_dir, with {netns} and {uuid}, for a command that has no option for it.",
		Details: `**{netns}** stands for the name of the network namespace, **{uuid}** for the UUID in that name. It
cannot be used together with **ready.pid_file_option**.`,
		Example: `"/var/lib/neutron/external/pids/{uuid}.pid.haproxy"`,
		Since:   "0.1.0",
		decode:  (*draft).readyPIDFile,
		schema:  pidFileSchema,
	},
	{
		Name: "ready.timeout", Type: "duration", Default: `"60s"`,
		Meaning: "How long a sidecar may take to become ready.",
		Details: `A sidecar that takes longer is stopped, and the call fails. A call whose request has been spooled
waits as long, too.`,
		Example: `"2min"`,
		Since:   "0.1.0",
		decode:  (*draft).readyTimeout,
		schema:  durationSchema,
	},
}

var (
	engines  = []string{string(Podman), string(Docker), string(Systemd)}
	restarts = []string{"no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"}
	logs     = []string{string(LogJournal), string(LogFile)}
)

// readyTable is the one table that a definition has.
const readyTable = "ready"

// rolePrefix is what the role's variables have before the names of our keys.
const rolePrefix = "tripleo_systemd_wrapper_"

var keysByName = func() map[string]*Key {
	m := make(map[string]*Key, len(Keys))
	for i := range Keys {
		m[Keys[i].Name] = &Keys[i]
	}
	return m
}()

// nearestKey returns the known key that somebody who wrote name may have meant,
// or "" if none is near.
func nearestKey(name string) string {
	short := strings.TrimPrefix(name, rolePrefix)
	if _, ok := keysByName[short]; ok && short != name {
		return short
	}
	short = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(short, readyTable+"."), "-", "_"))
	// A name is near when a third of it at most has to change. Longer ones are
	// not looked at: the distance takes time with the square of the length.
	if len(short) > 64 {
		return ""
	}
	best, least := "", 0
	consider := func(candidate string) {
		_, last, dotted := strings.Cut(candidate, ".")
		if !dotted {
			last = candidate
		}
		d := distance(short, last)
		// Of two as near, the one in the same table.
		sameTable := strings.Contains(name, ".") == dotted
		if 3*d <= max(len(short), len(last)) && (best == "" || d < least || d == least && sameTable) {
			best, least = candidate, d
		}
	}
	for _, k := range Keys {
		consider(k.Name)
	}
	consider(readyTable)
	return best
}

// distance returns how many bytes have to be inserted, deleted, replaced, or
// swapped with their neighbour, to make b of a.
func distance(a, b string) int {
	before, last, this := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		this[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			this[j] = min(last[j]+1, this[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				this[j] = min(this[j], before[j-2]+1)
			}
		}
		before, last, this = last, this, before
	}
	return last[len(b)]
}
