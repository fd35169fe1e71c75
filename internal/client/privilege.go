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
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // capabilities 0 to 31, and those after them
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return
	}
	const kept = 1 << unix.CAP_DAC_OVERRIDE
	sets = [2]unix.CapUserData{{Effective: sets[0].Effective & kept, Permitted: sets[0].Permitted & kept}}
	_ = unix.Capset(&header, &sets[0])
}
