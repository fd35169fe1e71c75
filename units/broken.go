// SPDX-License-Identifier: Apache-2.0

package units

import (
	"cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// RenderBroken returns the units of a broken definition: an S.service that is
// described by the first problem and that fails, with all problems in its
// journal, and a timer that starts it once. Upholding the service itself would
// start it over and over.
//
// The timer stops the activation socket and the path unit of the definition
// before it was broken. Requests are spooled then and served when it is mended.
func RenderBroken(b *conf.Broken) []File {
	problem := b.Source + " is broken"
	if len(b.Problems) > 0 {
		problem = b.Problems[0].Error()
	}
	name := cmp.Or(b.Service, b.Name) // of what was there before it was broken
	service := unitSection(b.Source, text(problem)) +
		// Stops an activator that still runs, with the socket; as long as it
		// ran, the unit could not fail.
		setting("PartOf", layout.SocketUnit(b.Name)) +
		"\n[Service]\n" +
		setting("Type", "oneshot") +
		setting("ExecStart", quote(layout.Control())+" check "+quote(b.Source)) +
		setting("SyslogIdentifier", b.Name)
	timer := unitSection(b.Source, "Report of a broken definition: "+text(b.Source)) +
		setting("PartOf", layout.Target) +
		setting("Conflicts", layout.SocketUnit(name)+" "+layout.PathUnit(name)) +
		setting("After", layout.SocketUnit(name)+" "+layout.PathUnit(name)) +
		"\n[Timer]\n" +
		setting("OnActiveSec", "0") +
		setting("AccuracySec", "1ms")
	files := []File{
		{Name: layout.ServiceUnit(b.Name), Text: service},
		{Name: layout.TimerUnit(b.Name), Text: timer},
	}
	return append(files, held(b.Name, layout.TimerUnit(b.Name))...)
}
