// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// keepTemplate keeps a copy of the unit by which sidecars are started. When the
// definition is broken, nothing is left to make that unit of, and systemd, which
// would know nothing of running sidecars any more, would neither bring back one
// that dies nor clear up behind one that is stopped.
func (a *Activator) keepTemplate() {
	if err := a.copyTemplate(); err != nil {
		a.log.Warn(fmt.Sprintf("keeping the unit of sidecars: %v; until that is mended, systemd forgets them when the definition is broken", err))
	}
}

func (a *Activator) copyTemplate() error {
	text, err := os.ReadFile(filepath.Join(layout.GeneratedDir, layout.TemplateUnit(a.service.Name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil // systemd has generators write it anew this moment
	}
	if err != nil {
		return err
	}
	kept := layout.KeptTemplate(a.service.Name)
	if had, err := os.ReadFile(kept); err == nil && string(had) == string(text) { // #nosec G304 -- below layout.RuntimeDir, which is root's alone
		now := time.Now() // the last service of a file is told by it
		return os.Chtimes(kept, now, now)
	}
	dir, err := beneath.Open(filepath.Dir(kept))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteFile(filepath.Base(kept), text, 0o600)
}
