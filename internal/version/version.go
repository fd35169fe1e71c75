// SPDX-License-Identifier: Apache-2.0

// Package version says which release this is.
package version

import (
	"runtime/debug"
	"strings"
)

// Version is set by the build (meson.build names it once). What go install has
// built knows the version of its module instead.
var Version string

func init() {
	if Version == "" {
		Version = ofModule(debug.ReadBuildInfo())
	}
}

// unknown is the version of a program that was built in another way.
const unknown = "0-devel"

func ofModule(info *debug.BuildInfo, ok bool) string {
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return unknown
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}
