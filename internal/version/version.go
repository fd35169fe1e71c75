// Package version says which release this is.
package version

// Version is set by the build (meson.build names it once).
var Version = "0-devel"
