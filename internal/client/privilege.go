// SPDX-License-Identifier: Apache-2.0

package client

import "golang.org/x/sys/unix"

// DropPrivileges takes from the calling thread what the wrapper and the kill
// script do not need, which often are root in a container with most
// capabilities: every capability but CAP_DAC_OVERRIDE, with which the socket,
// the spool and pid files can be used that are another user's
// (capabilities(7)), and any way to more by starting a program.
//
// It is of use to whoever does all its work in the main thread. Threads that
// the runtime has for itself keep what they have: to reach them takes as long
// as a tenth of a call (syscall.AllThreadsSyscall). Where a container does not
// let it drop anything, a call is to be served all the same.
func DropPrivileges() {
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	_ = limitCapabilities(1 << unix.CAP_DAC_OVERRIDE)
}

// limitCapabilities takes from the calling thread the capabilities that are not
// among those, and has none inherited.
func limitCapabilities(keep uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // capabilities 0 to 31, and those after them
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		kept := uint32(keep >> (32 * i)) // #nosec G115 -- the half of it
		sets[i] = unix.CapUserData{Effective: sets[i].Effective & kept, Permitted: sets[i].Permitted & kept}
	}
	return unix.Capset(&header, &sets[0])
}
