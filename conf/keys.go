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
	// Example is a value as TOML, other than the default.
	Example string

	// decode checks a value and puts it into the draft's service.
	decode func(d *draft, k *Key, value any)
}

// Keys are all keys of a definition, in the order in which a reader wants to
// learn them. Decoding, the manual page and the JSON schema all follow it.
var Keys = []Key{
	{
		Name: "service_name", Type: "string", Default: "(the file's base name)",
		Meaning: "Name of the service; the names of its units and containers come from it.",
		Example: `"neutron-dnsmasq"`,
		decode:  (*draft).serviceName,
	},
	{
		Name: "service_dir", Type: "absolute path", Required: true,
		Meaning: "Directory of the state files, at the same path in the agent's container.",
		Example: `"/var/lib/neutron"`,
		decode:  (*draft).serviceDir,
	},
	{
		Name: "cmd", Type: "string (shell text) or list of strings (argument list)", Required: true,
		Meaning: "Command of the sidecar; the arguments of the wrapper's caller are appended.",
		Example: `"/usr/sbin/dnsmasq -k"`,
		decode:  (*draft).cmd,
	},
	{
		Name: "container_cli", Type: "string", Values: engines, Default: `"podman"`,
		Meaning: "What runs the sidecars; systemd itself needs no image and no container tool.",
		Example: `"systemd"`,
		decode:  (*draft).containerCLI,
	},
	{
		Name: "image_name", Type: "string", Default: "(none; required for podman and docker)",
		Meaning: "Container image; for systemd also dir:/path of a root file system.",
		Example: `"quay.io/tripleomastercentos9/openstack-neutron-dhcp-agent:current-tripleo"`,
		decode:  (*draft).imageName,
	},
	{
		Name: "config_bind_mount", Type: "string SRC:DST[:OPTS]", Default: "(none)",
		Meaning: "Bind mount of the configuration.",
		Example: `"/var/lib/config-data/puppet-generated/neutron/etc/neutron:/etc/neutron:ro"`,
		decode:  (*draft).configBindMount,
	},
	{
		Name: "bind_mounts", Type: "list of strings SRC:DST[:OPTS]", Default: "[]",
		Meaning: "Further bind mounts.",
		Example: `["/run/openvswitch:/run/openvswitch:z"]`,
		decode:  (*draft).bindMounts,
	},
	{
		Name: "docker_additional_sockets", Type: "list of absolute paths", Default: "[]",
		Meaning: "Additional sockets of Docker; the first one becomes DOCKER_HOST.",
		Example: `["/var/lib/openstack/docker.sock"]`,
		decode:  (*draft).dockerSockets,
	},
	{
		Name: "service_kill_script", Type: "file name", Default: "(none)",
		Meaning: "Name of the kill script; several services of one service_dir may share it.",
		Example: `"dnsmasq-kill"`,
		decode:  (*draft).killScript,
	},
	{
		Name: "debug", Type: "boolean", Default: "false",
		Meaning: "Debug logging for the service's activator and sidecars.",
		Example: "true",
		decode:  (*draft).debug,
	},
	{
		Name: "container_options", Type: "list of strings", Default: "[]",
		Meaning: "Options of podman run or docker run, passed before the image.",
		Example: `["--pids-limit=100"]`,
		decode:  (*draft).containerOptions,
	},
	{
		Name: "privileged", Type: "boolean", Default: "true",
		Meaning: "Whether containers are privileged.",
		Example: "false",
		decode:  (*draft).privileged,
	},
	{
		Name: "restart", Type: "string", Values: restarts, Default: `"on-failure"`,
		Meaning: "When a sidecar that ended is started again, as Restart= in systemd.service(5).",
		Example: `"no"`,
		decode:  (*draft).restart,
	},
	{
		Name: "log", Type: "string", Values: logs, Default: `"journal"`,
		Meaning: "Where the sidecars' output goes: the journal, or a file per sidecar in /var/log/containers/stdouts.",
		Example: `"file"`,
		decode:  (*draft).log,
	},
	{
		Name: "pass_environment", Type: "list of variable names", Default: `["PROCESS_TAG"]`,
		Meaning: "Environment variables of the wrapper's caller that the sidecar gets.",
		Example: `["PROCESS_TAG", "LANG"]`,
		decode:  (*draft).passEnvironment,
	},
	{
		Name: "allowed_uids", Type: "list of integers", Default: "[0]",
		Meaning: "Users that may start and signal sidecars, by number.",
		Example: "[0, 42435]",
		decode:  (*draft).allowedUIDs,
	},
	{
		Name: "idle_timeout", Type: "duration", Default: `"30s"`,
		Meaning: "How long the activator stays after its last request.",
		Example: `"5min"`,
		decode:  (*draft).idleTimeout,
	},
	{
		Name: "ready.pid_file_option", Type: "list of options", Default: "[]",
		Meaning: "Options of the command that name its pid file; the sidecar is ready when that file is there.",
		Example: `["--pid-file", "-x"]`,
		decode:  (*draft).readyPIDFileOption,
	},
	{
		Name: "ready.pid_file", Type: "absolute path", Default: "(none)",
		Meaning: "Pid file below service_dir, with {netns} and {uuid}, for a command that has no option for it.",
		Example: `"/var/lib/neutron/external/pids/{uuid}.pid.haproxy"`,
		decode:  (*draft).readyPIDFile,
	},
	{
		Name: "ready.timeout", Type: "duration", Default: `"60s"`,
		Meaning: "How long a sidecar may take to become ready.",
		Example: `"2min"`,
		decode:  (*draft).readyTimeout,
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
