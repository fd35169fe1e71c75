// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// report returns the page of a soak.
func (k *soak) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, soakHead, k.took.Round(time.Second), k.seed)
	fmt.Fprintf(&b, "## Requests\n\n| service | requests | done | refused with reason | lost | duplicates |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for i, kind := range standing {
		var t tally
		for _, w := range k.workers {
			if w.scene == k.scenes[i] {
				t.requests += w.tally.requests
				t.refused += w.tally.refused
				t.lost += w.tally.lost
				t.duplicates += w.tally.duplicates
			}
		}
		fmt.Fprintf(&b, "| standing, %s | %d | %d | %d | %d | %d |\n",
			kind.engine, t.requests, t.requests-t.refused-t.lost, t.refused, t.lost, t.duplicates)
	}
	fmt.Fprintf(&b, "| those of faults | %d | | %d | %d | %d |\n| **all** | **%d** | | | | |\n\n", k.faults.requests, k.faults.refused, k.faults.lost, k.faults.duplicates, k.requests)

	fmt.Fprintf(&b, "Why standing services refused:\n\n")
	reasons := map[string]int{}
	for _, w := range k.workers {
		for reason, n := range w.tally.reasons {
			reasons[reason] += n
		}
	}
	for _, reason := range byCount(reasons) {
		fmt.Fprintf(&b, "- %d: %s\n", reasons[reason], strings.ReplaceAll(reason, "`", "'"))
	}

	fmt.Fprintf(&b, "\n| what the callers did | times |\n| --- | ---: |\n")
	for _, action := range actions {
		n := 0
		for _, w := range k.workers {
			n += w.did[action.name]
		}
		fmt.Fprintf(&b, "| %s | %d |\n", action.name, n)
	}

	fmt.Fprintf(&b, "\n## Disturbances\n\n| what | times | seconds each |\n| --- | ---: | ---: |\n")
	for _, name := range byCount(k.disturbed) {
		fmt.Fprintf(&b, "| %s | %d | %.1f |\n", name, k.disturbed[name], k.seconds[name]/float64(k.disturbed[name]))
	}

	fmt.Fprintf(&b, "\n## What is there\n\n| | before | after the first pass | at the end |\n| --- | ---: | ---: | ---: |\n")
	for _, kind := range slices.Concat(namedKinds, countedKinds) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", kind, k.empty.show(kind), k.first.show(kind), k.ended.show(kind))
	}

	fmt.Fprintf(&b, "\nNot counted above are, at the end:\n\n")
	for _, other := range ofOthers {
		fmt.Fprintf(&b, "- %d names that begin with `%s`: %s\n", k.ended.others[other.prefix], other.prefix, other.why)
	}

	fmt.Fprintf(&b, "\n## On the way\n\n| minutes | sidecars | activators | their memory | systemd's memory | its descriptors | control groups | mounts | units | files |\n")
	fmt.Fprintf(&b, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, p := range k.passes {
		i := p.inventory
		fmt.Fprintf(&b, "| %.0f | %d | %d | %.1f MiB | %s | %s | %s | %s | %s | %s |\n", p.at.Minutes(), p.sidecars, p.activators, float64(p.memory)/(1<<20),
			i.show("memory of systemd"), i.show("descriptors of systemd"), i.show("control groups"), i.show("mounts"), i.show("units"), i.show("files"))
	}
	if len(k.problems) > 0 {
		fmt.Fprintf(&b, "\n## What was not well\n\n")
		for _, problem := range k.problems {
			fmt.Fprintf(&b, "- %s\n", problem)
		}
	}
	return b.String()
}

// byCount returns the keys of a map, those with the most first.
func byCount(counts map[string]int) []string {
	var keys []string
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	return keys
}

const soakHead = `# Soak

Made by ` + "`test/soak`" + ` on a throwaway host: %s of real wrapper calls for real
sidecars of four standing services, one for each engine, beside which one disturbance comes
after the other: each fault of [faults.md](faults.md), mishaps of the standing services, and
each attack of [security.md](security.md), in an order that is drawn anew for each pass
(seed %d).

Each call of a standing service is looked at when it returns: 0 has to mean that the sidecar
runs, with these arguments, in that namespace, in its unit; that one that was killed is gone;
that one that was reloaded is the same process. Everything else has to be an error with a
reason. When the time is over, each network namespace is asked for once more, which has to
succeed; then all definitions, namespaces and directories are taken away, and the host is
compared with what it was before the first call.

`
