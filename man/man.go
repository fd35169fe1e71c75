// SPDX-License-Identifier: Apache-2.0

// Package man makes what is installed for people and editors to look things up
// in: the manual pages, from Markdown, and the JSON Schemas of definitions. What
// both say of the keys of a definition comes from [conf.Keys].
//
// In the Markdown, @KEYS@ and @READY_KEYS@ stand for the keys, and @LIBEXECDIR@
// for where the programs are.
package man

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

//go:embed *.md
var sources embed.FS

// Names of the schemas. Editors take a whole file for a schema and no part of
// one, so that of drop-ins, which need no keys, is a file by itself.
const (
	Schema       = "tripleo-wrappers.schema.json"
	DropInSchema = "tripleo-wrappers-drop-in.schema.json"
)

// Files returns the text of all files by their names, such as
// "tripleo-wrappers.7". It is the same for the same sources and version: pages
// have no date.
func Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := sources.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		page := strings.TrimSuffix(entry.Name(), ".md")
		source, err := Source(page)
		if err != nil {
			return nil, err
		}
		if files[page], err = roff(page, source); err != nil {
			return nil, fmt.Errorf("rendering %s: %w", page, err)
		}
	}
	for name, dropIn := range map[string]bool{Schema: false, DropInSchema: true} {
		if files[name], err = schema(dropIn); err != nil {
			return nil, fmt.Errorf("making %s: %w", name, err)
		}
	}
	return files, nil
}

// Source returns the Markdown of a page, such as "tripleo-wrappers.7".
func Source(page string) (string, error) {
	text, err := sources.ReadFile(page + ".md")
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"@KEYS@", keys(func(name string) bool { return !strings.Contains(name, ".") }),
		"@READY_KEYS@", keys(func(name string) bool { return strings.HasPrefix(name, "ready.") }),
		"@LIBEXECDIR@", layout.LibexecDir,
	).Replace(string(text)), nil
}

// keys returns a list of keys as Markdown.
func keys(wanted func(name string) bool) string {
	var b strings.Builder
	for _, k := range conf.Keys {
		if !wanted(k.Name) {
			continue
		}
		name := strings.TrimPrefix(k.Name, "ready.")
		value := k.Type
		if k.Values != nil {
			value = `"` + strings.Join(k.Values, `" | "`) + `"`
		}
		fallback := "Required."
		if !k.Required {
			fallback = "Default: " + defaultOf(&k)
		}
		fmt.Fprintf(&b, "**%s** = %s\n:   %s\n\n", name, value, k.Meaning)
		for paragraph := range strings.SplitSeq(k.Details, "\n\n") {
			fmt.Fprintf(&b, "    %s\n\n", strings.ReplaceAll(paragraph, "\n", "\n    "))
		}
		fmt.Fprintf(&b, "    %s  \n    Example: `%s = %s`  \n    Added in version %s.\n\n",
			fallback, name, k.Example, k.Since)
	}
	return b.String()
}

// defaultOf returns a default as Markdown: a value, or words.
func defaultOf(k *conf.Key) string {
	if words, ok := strings.CutPrefix(k.Default, "("); ok {
		return strings.TrimSuffix(words, ")")
	}
	return "`" + k.Default + "`"
}

// roff returns a page in the language of man(7).
func roff(page, markdown string) ([]byte, error) {
	const first = ".SH NAME\n"
	_, body, ok := strings.Cut(string(md2man.Render([]byte(markdown))), first)
	if !ok {
		return nil, errors.New("the first section is not NAME")
	}
	section := path.Ext(page)
	name := strings.TrimSuffix(page, section)
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %q %q \"\" \"tripleo-wrappers %s\" \"tripleo-wrappers\"\n",
		strings.ToUpper(name), section[1:], version.Version)
	// Lines are not adjusted, words not hyphenated, since people type them
	// again, and sentences have no more than a blank between them.
	b.WriteString(".nh\n.ad l\n.ss 12 0\n" + first)
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, ".") || strings.HasPrefix(line, ".SS ") {
			line = long.ReplaceAllStringFunc(plain.Replace(line), breakable)
		}
		b.WriteString(line)
		if line == ".EE\n" {
			b.WriteString(".nh\n") // which .EE has undone
		}
	}
	return b.Bytes(), nil
}

// plain keeps characters as they are in ASCII: groff has typographic ones for
// them, which no shell and no parser of TOML understands.
var plain = strings.NewReplacer(
	`\-`, `\-`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`,
)

// long matches a word that may not fit into a line, which then can be broken
// behind a slash.
var long = regexp.MustCompile(`[^ ]{60,}`)

func breakable(word string) string { return strings.ReplaceAll(word, "/", `/\:`) }

func schema(dropIn bool) ([]byte, error) {
	value, err := conf.Schema(dropIn)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
