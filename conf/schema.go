// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// A schema is a part of a JSON Schema, as encoding/json writes it.
type schema = map[string]any

// Schema returns the JSON Schema (draft-07) of a definition, or of a drop-in,
// for editors. It allows whatever Load allows in a file by itself. It cannot
// refuse all that Load refuses: not what is wrong with a shell's text, nor what
// is wrong only beside other files.
//
// In a drop-in no key is required, none has a default, and values need not go
// together, since they go with those of other files.
func Schema(dropIn bool) (map[string]any, error) {
	properties, ready := schema{}, schema{}
	required := []string{}
	for i := range Keys {
		k := &Keys[i]
		property, err := k.property(dropIn)
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutPrefix(k.Name, readyTable+"."); ok {
			ready[name] = property
			continue
		}
		properties[k.Name] = property
		if k.Required {
			required = append(required, k.Name)
		}
	}
	table := schema{
		"description": "When a sidecar counts as started.",
		"type":        "object", "properties": ready, "additionalProperties": false,
	}
	properties[readyTable] = table
	whole := schema{
		"$schema": "http://json-schema.org/draft-07/schema#",
		"title":   "Drop-in of a definition, see tripleo-wrappers.toml(5)",
		"type":    "object", "properties": properties, "additionalProperties": false,
	}
	if !dropIn {
		whole["title"] = "Definition of a service, see tripleo-wrappers.toml(5)"
		whole["required"] = required
		// What checkPresent and checkTogether check.
		whole["if"] = schema{"properties": schema{"join": schema{"minLength": 1}}, "required": []string{"join"}}
		whole["then"] = schema{"properties": leftOut()}
		whole["else"] = schema{
			"if": schema{
				"properties": schema{"container_cli": schema{"const": string(Systemd)}}, "required": []string{"container_cli"},
			},
			"then": schema{"properties": schema{"container_options": schema{"maxItems": 0}}},
			"else": schema{
				"properties": schema{"image_name": schema{"minLength": 1, "not": schema{"pattern": "^" + layout.RootDirectory}}}, "required": []string{"image_name"},
			},
		}
		table["not"] = schema{
			"properties": schema{"pid_file": schema{"minLength": 1}, "pid_file_option": schema{"minItems": 1}},
			"required":   []string{"pid_file", "pid_file_option"},
		}
	}
	return whole, nil
}

// leftOut are schemas of the keys that stand not beside join, or with nothing
// in them.
func leftOut() schema {
	properties := schema{}
	for _, key := range ofJoined {
		switch k := keysByName[key]; {
		case k.Values != nil || k.schema["type"] == "boolean":
			properties[key] = false
		case k.schema["type"] == "array":
			properties[key] = schema{"maxItems": 0}
		default:
			properties[key] = schema{"maxLength": 0}
		}
	}
	return properties
}

// property returns the schema of a key's value.
func (k *Key) property(dropIn bool) (schema, error) {
	p := schema{}
	if k.Values != nil {
		p["type"], p["enum"] = "string", k.Values
	}
	maps.Copy(p, k.schema)
	p["description"] = k.Meaning + "\n\n" + k.Details
	example, err := fromTOML(k.Example)
	if err != nil {
		return nil, fmt.Errorf("example of %s: %w", k.Name, err)
	}
	p["examples"] = []any{example}
	if !dropIn && !k.Required && !strings.HasPrefix(k.Default, "(") {
		if p["default"], err = fromTOML(k.Default); err != nil {
			return nil, fmt.Errorf("default of %s: %w", k.Name, err)
		}
	}
	return p, nil
}

func fromTOML(value string) (any, error) {
	var document struct{ V any }
	_, err := toml.Decode("v = "+value, &document)
	return document.V, err
}

// Patterns that say what functions of this package check. They look neither
// ahead nor behind, since not every editor's regular expressions can, and match
// in one way only, since those of others may take their time.
var (
	// checkPath: the one has to match, the other must not.
	absolute = "^/[" + pathSet + "]*$"
	upwards  = `(^|/)\.\.(/|$)` // #nosec G101 -- a pattern, no password
	// parseBindMount: the one has to match, the other must not.
	bindMount = fmt.Sprintf(`^/%[1]s*:/+[^/:\x00-\x1f\x7f]%[1]s*(:%[2]s(,%[2]s)*)?$`,
		`[^:\x00-\x1f\x7f]`, strings.Trim(mountOpt.String(), "^$"))
	bindUpwards = `/\.\.(/|:|$)` // #nosec G101 -- a pattern, no password
	// checkVariable, what it refuses
	refusedVariable = "^(" + strings.Join(refusedVariables, "|") + ")$" +
		"|^(" + strings.Join(refusedPrefixes, "|") + ")|_[Pp][Rr][Oo][Xx][Yy]$"
)

// Schemas of values, in the order of Keys.
var (
	serviceNameSchema = schema{
		"type": "string", "pattern": fileName.String(), "maxLength": layout.MaxService,
		"not": schema{"const": layout.KillScripts},
	}
	serviceDirSchema = schema{
		"type": "string", "pattern": absolute,
		"not": schema{"pattern": upwards + `|^(/|/\.)*$|^(` + strings.Join(hiddenDirs, "|") + ")(/|$)"},
	}
	cmdSchema = schema{
		"type": []string{"string", "array"}, "pattern": `[^ \t\r\n]`, "minItems": 1,
		"items": []schema{{"type": "string", "minLength": 1}}, "additionalItems": schema{"type": "string"},
	}
	imageNameSchema = schema{
		"type": "string", "anyOf": []schema{
			{"pattern": "^$|" + image.String(), "not": schema{"pattern": "^" + layout.RootDirectory}},
			{"pattern": "^" + layout.RootDirectory + "/[" + pathSet + "]*$", "not": schema{"pattern": upwards}},
		},
	}
	joinSchema = schema{
		"type": "string", "pattern": "^$|" + fileName.String(), "maxLength": layout.MaxService,
		"not": schema{"const": layout.KillScripts},
	}
	runSchema = listOf(schema{
		"type": "array", "minItems": 1, "items": schema{"type": "string", "minLength": 1, "not": schema{"pattern": `\x00`}},
	})
	configBindMountSchema = schema{"type": "string", "pattern": "^$|" + bindMount, "not": schema{"pattern": bindUpwards}}
	bindMountsSchema      = listOf(schema{"type": "string", "pattern": bindMount, "not": schema{"pattern": bindUpwards}})
	dockerSocketsSchema   = listOf(schema{"type": "string", "pattern": absolute, "not": schema{"pattern": upwards}})
	killScriptSchema      = schema{"type": "string", "pattern": "^$|" + fileName.String(), "maxLength": maxFileName}
	booleanSchema         = schema{"type": "boolean"}

	containerOptionsSchema = schema{
		"type": "array", "items": []schema{containerOption("^-")}, "additionalItems": containerOption("."),
	}
	passEnvironmentSchema = listOf(schema{
		"type": "string", "pattern": variable.String(), "not": schema{"pattern": refusedVariable},
	})
	allowedUIDsSchema = schema{
		"type": "array", "minItems": 1, "items": schema{"type": "integer", "minimum": 0, "maximum": int64(maxUID)},
	}
	durationSchema = schema{
		"type": []string{"string", "number"}, "pattern": durationPattern(),
		"exclusiveMinimum": 0, "maximum": int(maxDuration.Seconds()),
	}
	pidFileOptionSchema = listOf(schema{"type": "string", "pattern": `^-+[^-=\x00-\x20\x7f][^=\x00-\x20\x7f]*$`})
	pidFileSchema       = schema{
		"type": "string", "pattern": "^$|^/([" + pathSet + `]|\{netns\}|\{uuid\})*$`, "not": schema{"pattern": upwards},
	}
)

func listOf(item schema) schema { return schema{"type": "array", "items": item} }

// containerOption is an entry of container_options that also matches a pattern.
func containerOption(pattern string) schema {
	return schema{
		"type": "string", "pattern": pattern,
		"not": schema{"pattern": `[\x00\r\n]|^--?$|^(` + strings.Join(ownOptions, "|") + `)(=|$)|` + detached.String()},
	}
}

// durationPattern is ParseDuration: numbers, each with a unit behind it, or
// else with a blank or the end.
func durationPattern() string {
	units := slices.DeleteFunc(slices.Collect(maps.Keys(durationUnits)), func(unit string) bool { return unit == "" })
	// The longest first, for those who take the first one that fits.
	slices.SortFunc(units, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return `^\s*(([0-9]+\.?[0-9]*|\.[0-9]+)[ \t]*((` + strings.Join(units, "|") + `)[ \t]*|[ \t]|$))+\s*$`
}
