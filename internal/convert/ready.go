// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"path"
	"regexp"
	"slices"
)

// Where the helper processes of Neutron's agents write their pid files. The
// agents name the file in the arguments, for haproxy in the configuration
// (neutron/agent/linux/dhcp.py, ra.py, keepalived.py; agent/metadata/driver.py).
var pidFileOptions = map[string]string{
	"dnsmasq":    `["--pid-file", "-x"]`,
	"keepalived": `["--pid", "-p", "--vrrp_pid", "-r"]`,
	"radvd":      `["--pidfile", "-p"]`,
}

const (
	haproxy        = "haproxy"
	haproxyDir     = "/var/lib/neutron"
	haproxyPIDFile = haproxyDir + "/external/pids/{uuid}.pid.haproxy"
)

// Without one of these options haproxy writes no pid file.
var haproxyMaster = regexp.MustCompile(`\s-(W|Ws|D|Ds)\b`)

// program matches a program's name, or its path where programs are.
var program = regexp.MustCompile(`^(?:/(?:[\w.-]+/)*s?bin/)?([\w-]+)$`)

// separator matches what stands between the words of a command.
var separator = regexp.MustCompile(`[^\w./-]+`)

// ready says when the sidecar is ready. The role did not wait for that.
func (d *draft) ready() {
	cmd, ok := d.texts["cmd"]
	if !ok {
		return
	}
	var helpers []string
	for _, word := range separator.Split(cmd, -1) {
		m := program.FindStringSubmatch(word)
		if m != nil && (pidFileOptions[m[1]] != "" || m[1] == haproxy) && !slices.Contains(helpers, m[1]) {
			helpers = append(helpers, m[1])
		}
	}
	why := "its program's pid file is not known"
	switch {
	case len(helpers) != 1:
	case helpers[0] != haproxy:
		d.values["ready.pid_file_option"] = pidFileOptions[helpers[0]]
		d.comments["ready"] = "Ready when the pid file is there that the agent asks for. The role did not wait for it."
		return
	case path.Clean(d.texts["service_dir"]) != haproxyDir:
		why = "Neutron has haproxy write its pid file below " + haproxyDir + ", which is not service_dir"
	case !haproxyMaster.MatchString(cmd):
		why = "haproxy writes a pid file only with -W, -Ws or -D"
	default:
		d.values["ready.pid_file"] = tomlString(haproxyPIDFile)
		d.comments["ready"] = "Ready when the pid file is there that Neutron has haproxy write. The role did not wait for it."
		return
	}
	v, _ := d.call.vars.lookup("cmd")
	d.note(v, "%s, so that a call returns as soon as the sidecar runs; "+
		"if it writes a pid file, set ready.pid_file_option or ready.pid_file", why)
}
