// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A reboot cannot happen within a run of this program. Before it, requests are
// spooled; after it, half of their namespaces are there again before the path
// unit is, as an agent that is quick could have it.
const (
	rebootState = "/var/lib/faultinjection-reboot.json"
	rebootUnit  = "/etc/systemd/system/faultinjection-netns.service"
)

type rebootRecord struct {
	Name, Dir  string
	Namespaces []string
}

var leftOut = regexp.MustCompile(`(\d+) more lines like those above`)

// beforeReboot leaves a spool behind.
func beforeReboot(requests int) {
	s := newScene("systemd", requests, func(s *scene) { s.name, s.dir, s.timeout = "faultreboot", "/var/lib/faultreboot", "1s" })
	s.away()
	s.burst(s.namespaces)
	content, err := os.ReadFile(s.state("processes"))
	check(err)
	if n := strings.Count(string(content), "\n"); n != requests {
		panic(fmt.Errorf("%d requests are spooled, want %d", n, requests))
	}
	record, err := json.Marshal(rebootRecord{s.name, s.dir, s.namespaces})
	check(err)
	check(os.WriteFile(rebootState, record, 0o600))
	// Sockets and paths come before basic.target, after which services come by
	// default: systemd would break that cycle by leaving out one of them.
	unit := "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target\nBefore=" + s.name + ".path " + s.name + ".socket\n" +
		"[Service]\nType=oneshot\n"
	for _, netns := range s.namespaces[:requests/2] {
		unit += "ExecStart=ip netns add " + netns + "\n"
	}
	check(os.WriteFile(rebootUnit, []byte(unit+"[Install]\nWantedBy=multi-user.target\n"), 0o644))
	sh("systemctl enable --quiet faultinjection-netns.service")
}

// afterReboot looks at what became of it.
func afterReboot() (t tally) {
	defer func() {
		if err := recover(); err != nil {
			t.lost++
			t.notes = append(t.notes, fmt.Sprint(err))
		}
	}()
	content, err := os.ReadFile(rebootState)
	check(err)
	var record rebootRecord
	check(json.Unmarshal(content, &record))
	s := &scene{name: record.Name, dir: record.Dir, namespaces: record.Namespaces, gone: map[string]bool{}, stopped: map[string]bool{}}
	kept, dropped := s.namespaces[:len(s.namespaces)/2], s.namespaces[len(s.namespaces)/2:]
	eventually("the spool is served", func() bool {
		left := output("sh", "-c", "ls "+s.state("processes")+" "+s.state("processes.taken-*")+" 2>/dev/null || true")
		return left == ""
	})
	time.Sleep(time.Second)
	// Of so many lines the activator writes some, and at its end how many more
	// there were.
	sh("systemctl stop " + s.name + ".service && journalctl --sync")
	log := output("journalctl", "--quiet", "--boot", "--output=cat", "SERVICE="+s.name)
	told := strings.Count(log, "its network namespace is gone")
	for _, more := range leftOut.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(more[1])
		check(err)
		told += n
	}
	if told != len(dropped) {
		s.problem("%d requests were dropped, and the journal says so of %d:\n%s", len(dropped), told, log)
	}
	for _, netns := range kept {
		s.requests = append(s.requests, &request{netns: netns, arguments: s.arguments(netns), returned: true})
	}
	t = s.settle()
	t.requests += len(dropped)
	t.refused += len(dropped)
	return t
}
