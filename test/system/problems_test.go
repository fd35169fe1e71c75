// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import "strings"

// A problem is a definition that check does not like.
type problem struct {
	// lines take the place of those of a good definition that have the same
	// keys.
	lines  string
	whole  bool              // lines are all of it
	beside map[string]string // other definitions, by name
}

// good is a definition that check likes.
var good = []string{`service_dir = "/var/lib/neutron"`, `container_cli = "systemd"`, `cmd = "/usr/sbin/dnsmasq -k"`}

func (p *problem) definition() string {
	text := p.lines + "\n"
	if p.whole {
		return text
	}
	for _, line := range good {
		key, _, _ := strings.Cut(line, "=")
		if strings.HasPrefix(p.lines, "join =") && key == "container_cli " {
			continue // it is the other's
		}
		if !strings.Contains("\n"+text, "\n"+key) {
			text += line + "\n"
		}
	}
	return text
}

// each makes a problem of each text.
func each(texts ...string) []problem {
	var all []problem
	for _, text := range texts {
		all = append(all, problem{lines: text})
	}
	return all
}

// wholes makes a problem of each text, which is a whole definition.
func wholes(texts ...string) []problem {
	all := each(texts...)
	for i := range all {
		all[i].whole = true
	}
	return all
}

// One problem, at least, for each message that package conf has.
var (
	notDefinitions = wholes(
		`cmd = `,
		`cmd = "dnsmasq`,
		`cmd "dnsmasq"`,
		"debug = true\ndebug = false",
		"\xff\xfec\x00m\x00d\x00",
		"cmd = \"caf\xe9\"",
		"cmd = \"dns\x00masq\"",
		"cmd = \"dns\x1bmasq\"",
		"debug = true\rdebug = false",
		"cmd = "+strings.Repeat("[", 33),
	)
	keys = append(each(
		`container_cly = "systemd"`,
		`timeout = "60s"`,
		`tripleo_systemd_wrapper_debug = true`,
		`"ready.timeout" = "60s"`,
		`colour = "green"`,
	), wholes(`debug = true`)...)
	types = each(
		`service_name = 5`,
		`cmd = true`,
		`debug = "true"`,
		`debug = 1`,
		`bind_mounts = "/a:/b"`,
		`bind_mounts = ["/a:/b", 5]`,
		`pass_environment = {}`,
		`allowed_uids = 42435`,
		`allowed_uids = ["neutron"]`,
		`idle_timeout = true`,
		`ready = "60s"`,
	)
	namesAndPaths = append(each(
		`service_name = ""`,
		`service_name = "-dnsmasq"`,
		`service_name = "neutron dnsmasq"`,
		`service_name = "kill_scripts"`,
		`service_name = "haproxy"`,
		`service_name = "`+strings.Repeat("neutron-", 13)+`"`,
		`service_dir = ""`,
		`service_dir = "var/lib/neutron"`,
		`service_dir = "/var/lib/../neutron"`,
		`service_dir = "/var/lib/neutron's"`,
		`service_dir = "/"`,
		`service_dir = "/tmp/neutron"`,
		`service_dir = "/var/lib/`+strings.Repeat("neutron/", 9)+`neutron"`,
		`service_kill_script = "../dnsmasq-kill"`,
		`service_kill_script = "`+strings.Repeat("k", 256)+`"`,
	), problem{lines: `service_name = "neutron-ovn"`, beside: map[string]string{"odd name!": strings.Join(good, "\n")}})
	commands = each(
		`cmd = ""`,
		`cmd = "exec"`,
		`cmd = "DEBUG=1"`,
		`cmd = "dnsmasq -k;"`,
		`cmd = "dnsmasq '-k"`,
		`cmd = "if true; then dnsmasq -k; fi"`,
		`cmd = "sleep 1; dnsmasq -k"`,
		`cmd = "dnsmasq\u0000"`,
		`cmd = []`,
		`cmd = ["", "-k"]`,
		`cmd = ["dnsmasq", "\u0000"]`,
		`cmd = ["dnsmasq", "`+strings.Repeat("x", 20_480)+`"]`,
	)
	containers = each(
		`container_cli = "lxc"`,
		`container_cli = "podman"`,
		"image_name = \"\"\ncontainer_cli = \"docker\"",
		"image_name = \"-x\"\ncontainer_cli = \"podman\"",
		`image_name = "dir:srv/root"`,
		`image_name = "dir:/srv/root"`,
		"image_name = \"dir:/srv/root\"\ncontainer_cli = \"podman\"",
		`config_bind_mount = "/etc/neutron"`,
		`config_bind_mount = "neutron:/etc/neutron"`,
		`config_bind_mount = "/etc/neutron:etc/neutron"`,
		`config_bind_mount = "/etc/neutron:/"`,
		`config_bind_mount = "/etc/../neutron:/etc/neutron"`,
		`config_bind_mount = "/etc/neutron:/etc/neutron:ro,"`,
		`config_bind_mount = "/etc/neutron\n:/etc/neutron"`,
		`bind_mounts = ["/a:/mnt", "/b:/mnt"]`,
		`bind_mounts = ["/run/netns:/run/netns:shared"]`,
		`docker_additional_sockets = ["docker.sock"]`,
		`container_options = ["--pids-limit=100"]`,
		"container_options = [\"\"]\nimage_name = \"a\"\ncontainer_cli = \"podman\"",
		"container_options = [\"--env=A\\n\"]\nimage_name = \"a\"\ncontainer_cli = \"podman\"",
		"container_options = [\"pids-limit=100\"]\nimage_name = \"a\"\ncontainer_cli = \"podman\"",
		"container_options = [\"--init\", \"--\"]\nimage_name = \"a\"\ncontainer_cli = \"podman\"",
		"container_options = [\"--name=dnsmasq\"]\nimage_name = \"a\"\ncontainer_cli = \"podman\"",
	)
	variablesAndUsers = each(
		`pass_environment = ["DEBUG=1"]`,
		`pass_environment = ["LD_PRELOAD"]`,
		`allowed_uids = []`,
		`allowed_uids = [-1]`,
	)
	readiness = each(
		`idle_timeout = ""`,
		`idle_timeout = "infinity"`,
		`idle_timeout = "-5s"`,
		`idle_timeout = 0`,
		`idle_timeout = nan`,
		`idle_timeout = "soon"`,
		`idle_timeout = "5 fortnights"`,
		`idle_timeout = "25h"`,
		`ready.pid_file_option = ["pid-file"]`,
		`ready.pid_file_option = ["--pid-file="]`,
		`ready.pid_file_option = ["-x --pid-file"]`,
		`ready.pid_file = "/var/lib/neutron/{name}.pid"`,
		`ready.pid_file = "dnsmasq.pid"`,
		`ready.pid_file = "/run/dnsmasq.pid"`,
		"ready.pid_file = \"/var/lib/neutron/{netns}.pid\"\nready.pid_file_option = [\"--pid-file\"]",
	)
	joinAndRun = append(each(
		`join = "neutron keepalived"`,
		`join = "neutron-dnsmasq"`,
		`join = "neutron-keepalived"`,
		"container_cli = \"systemd\"\njoin = \"neutron-keepalived\"",
		`run = "-k"`,
		`run = ["-k"]`,
		`run = [[]]`,
		`run = [["-k", ""]]`,
	),
		problem{lines: `join = "neutron-ovn"`, beside: map[string]string{"neutron-ovn": strings.Join(good, "\n") + "\ndebug = 1"}},
		problem{lines: `join = "neutron-ovn"`, beside: map[string]string{
			"neutron-ovn":        "service_dir = \"/var/lib/neutron\"\ncmd = \"ovn\"\njoin = \"neutron-keepalived\"",
			"neutron-keepalived": strings.Join(good, "\n"),
		}},
	)
	besideEachOther = []problem{
		{lines: `service_name = "neutron-haproxy"`, beside: map[string]string{"neutron-haproxy": strings.Join(good, "\n")}},
		{
			lines:  `service_dir = "/var/lib/neutron/dnsmasq"`,
			beside: map[string]string{"neutron-ovn": strings.Join(good, "\n")},
		},
		{
			lines:  "service_name = \"neutron-ovn-az2\"\nservice_dir = \"/var/lib/az2\"\nlog = \"file\"",
			beside: map[string]string{"neutron-ovn": strings.Join(good, "\n") + "\nlog = \"file\""},
		},
	}
)
