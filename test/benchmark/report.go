// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

// A machine is what the figures are of.
type machine struct {
	processor  string
	processors int
	memory     int64
	versions   []string
	load       string
	began      time.Time
}

func describeMachine() (m machine, err error) {
	m.processors, m.began = runtime.NumCPU(), time.Now()
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(cpuinfo)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.processor = strings.TrimSpace(value)
		}
	}
	kB, _ := field("/proc/meminfo", "MemTotal")
	m.memory = kB << 10
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	m.load, _, _ = strings.Cut(string(load), " ")
	for _, command := range [][]string{
		{"uname", "--kernel-name", "--kernel-release"}, {"systemctl", "--version"},
		{"podman", "--version"}, {"docker", "--version"},
	} {
		version, err := output(command...)
		if err != nil {
			return m, err
		}
		version, _, _ = strings.Cut(version, "\n")
		version, _, _ = strings.Cut(version, " (")
		version, _, _ = strings.Cut(version, ", build")
		m.versions = append(m.versions, strings.TrimSpace(version))
	}
	return m, nil
}

func (m machine) String() string {
	return fmt.Sprintf("%d × %s, %.0f GB\n    %s", m.processors, m.processor, float64(m.memory)/(1<<30),
		strings.Join(m.versions, ", "))
}

//go:embed performance.md.in
var pageText string

var page = template.Must(template.New("performance").Parse(pageText))

// report makes the page. Templates that it defines are reasons for targets that are
// missed.
func report(b *bench, call string) string {
	var text bytes.Buffer
	days, took, loads, machines := b.record.sat()
	err := page.Execute(&text, map[string]any{
		"Call": call, "Date": days, "Took": took.Round(time.Second), "Sittings": len(b.record.Sittings),
		"Loads": loads, "Machines": machines,
		"Plan": b.plan, "Problems": b.problems, "Lost": b.facts.lost,
		"Contenders": b.contenderTable(), "Targets": b.targets(), "Reasons": b.reasons(),
		"Warm":   b.perContender(warm, b.plan.running, "%d running", beside(warm), no),
		"Cold":   b.perContender(cold, b.plan.running, "%d running", itself(warm), no),
		"Gone":   b.perContender(gone, b.plan.running, "%d running", beside(gone), no),
		"Bursts": b.perContender(burst, b.plan.bursts, "%d at once", beside(burst), b.up),
		"Memory": b.memoryTable(),
		"Host":   b.hostTable(),
	})
	if err != nil {
		panic(err) // the template is part of this program
	}
	return text.String()
}

// table makes a table of rows of cells, the first of which are its head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat(" --- |", len(row)))
		}
	}
	return b.String()
}

func (b *bench) contenderTable() string {
	rows := [][]string{{"contender", "what it is", "compared with"}}
	for _, c := range b.contenders {
		rows = append(rows, []string{c.name, c.about, c.beside})
	}
	return table(rows)
}

// perContender makes a table with a line for each contender that was measured.
// Other says what it is compared with.
func (b *bench) perContender(
	f figure, sizes []int, head string, other func(*contender) (figure, string), more func(key) string,
) string {
	rows := [][]string{{"contender"}}
	for _, n := range sizes {
		rows[0] = append(rows[0], fmt.Sprintf(head, n))
	}
	for _, c := range b.contenders {
		row, measured := []string{c.name}, false
		for _, n := range sizes {
			k, cell := key{f, c.name, n}, ""
			if b.results.has(k) {
				var compared key
				if !b.incomplete(k) { // less work is no faster work
					otherFigure, name := other(c)
					compared = key{otherFigure, name, n}
				}
				cell = b.times(k, compared) + more(k)
				if n := len(b.results[k]); n < b.plan.Rounds {
					cell += fmt.Sprintf(", of %d", n)
				}
				measured = true
			}
			row = append(row, cell)
		}
		if measured {
			rows = append(rows, row)
		}
	}
	return table(rows)
}

// times prints wall and CPU time, each with what it is of another's.
func (b *bench) times(k, other key) string {
	wall, cpu := duration(b.results.wall(k)), duration(b.results.cpu(k))+" CPU"
	if ratio, ok := b.results.ratio(k, other, wallOf); ok {
		wall += fmt.Sprintf(" (%.2f ×)", ratio)
	}
	if ratio, ok := b.results.ratio(k, other, cpuOf); ok {
		cpu += fmt.Sprintf(" (%.2f ×)", ratio)
	}
	return wall + ", " + cpu
}

// duration prints with three digits or more.
func duration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	default:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }

// What a contender is compared with.
func beside(f figure) func(*contender) (figure, string) {
	return func(c *contender) (figure, string) { return f, c.beside }
}

func itself(f figure) func(*contender) (figure, string) {
	return func(c *contender) (figure, string) { return f, c.name }
}

// up prints how many of a burst came up, and in bold if it was ever less than
// all.
func (b *bench) up(k key) string {
	up := fmt.Sprint(median(b.results[k], upOf), " up")
	if b.incomplete(k) {
		up = "**" + up + "**"
	}
	return ", " + up
}

// incomplete says whether less than all of a burst ever came up.
func (b *bench) incomplete(k key) bool {
	return k.figure == burst && slices.ContainsFunc(b.results[k], func(m measurement) bool { return m.up != k.n })
}

func no(key) string { return "" }

// memoryTable is of the bursts, after which there is nothing but their
// sidecars.
func (b *bench) memoryTable() string {
	rows := [][]string{{"contender"}}
	for _, n := range b.plan.bursts {
		rows[0] = append(rows[0], fmt.Sprintf("each of %d sidecars", n), fmt.Sprintf("activator, with %d at once", n))
	}
	for _, c := range b.contenders {
		if c.noSidecar {
			continue
		}
		row := []string{c.name}
		for _, n := range b.plan.bursts {
			all := b.results[key{burst, c.name, n}]
			sidecar, activator := "", ""
			if len(all) > 0 {
				sidecar = megabytes(median(all, memoryOf))
				if c.ours() {
					activator = megabytes(quantile(all, 1, peakOf))
				}
			}
			row = append(row, sidecar, activator)
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// hostTable has what there is once on a host.
func (b *bench) hostTable() string {
	rows := [][]string{{"figure", "time", "compared with", "time"}}
	add := func(name string, k key, beside string, other key) {
		switch {
		case !b.results.has(k):
		case k == other:
			rows = append(rows, []string{name, b.times(k, key{}), "", ""})
		default:
			rows = append(rows, []string{name, b.times(k, other), beside, b.times(other, key{})})
		}
	}
	for _, n := range b.plan.definitions {
		add(fmt.Sprintf("generator, %d definitions", n), key{generated, "", n}, "the same bytes", key{copied, "", n})
	}
	for _, n := range b.plan.running {
		add(fmt.Sprintf("`systemctl daemon-reload`, %d running", n), key{reload, "", n}, "none running", key{reload, "", 0})
	}
	add("`tripleo-wrapper --version`, its own CPU time", key{startUp, ourClient, 0}, "`true`", key{startUp, nothing, 0})
	add("call for what runs already, CPU time of its own process", key{again, ourClient, 0}, "the same call of nothing", key{again, nothing, 0})
	return table(rows)
}
