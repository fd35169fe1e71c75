// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"fmt"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Take takes the spool away by renaming it, so that requests made from now on
// are spooled anew, and returns the names of all spools that have been taken
// and not been removed yet, those that an activator before this one left
// included. No spool gets a name that is in use, although nothing of that name
// need be there any more. Where as many are taken as there may be, the spool
// stays for later. Take waits for the lock until ctx is done.
func Take(ctx context.Context, stateDir *beneath.Dir, inUse map[string]bool) ([]string, error) {
	var taken []string
	free := ""
	for _, name := range layout.SpoolsTaken() {
		there, err := stateDir.Exists(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("looking for spools: %w", err)
		case there:
			taken = append(taken, name)
		case free == "" && !inUse[name]:
			free = name
		}
	}
	if free == "" {
		return taken, nil
	}
	there, err := stateDir.Exists(layout.Spool)
	if err == nil && there {
		err = take(ctx, stateDir, free)
		taken = append(taken, free)
	}
	if err != nil {
		return nil, fmt.Errorf("taking the spool of %s: %w", stateDir.Path(), err)
	}
	return taken, nil
}

func take(ctx context.Context, stateDir *beneath.Dir, name string) error {
	lock, err := Lock(ctx, stateDir.ProcPath())
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return stateDir.Rename(layout.Spool, name)
}
