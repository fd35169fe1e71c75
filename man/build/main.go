// SPDX-License-Identifier: Apache-2.0

// Command build writes the manual pages and JSON Schemas into a directory, for
// the build of the project.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tripleo-wrappers/tripleo-wrappers/man"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: go run ./man/build DIRECTORY")
	}
	files, err := man.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil { // #nosec G306 G703 -- for all to read; the build says where
			return err
		}
	}
	return nil
}
