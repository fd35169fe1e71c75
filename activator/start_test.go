// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// What is short in a message may be long in memory: there is an end to the values
// in one. What only looks like several is one.
func TestManyValues(t *testing.T) {
	conn := connection(t)
	many := func(list, value string, n int) string {
		return `{"` + list + `":[` + strings.Repeat(value+",", n-1) + value + `]}`
	}
	for _, test := range []struct {
		name, parameters string
		ok               bool
	}{
		{"100,000 arguments", many("arguments", `"x"`, 100_000), true},
		{"as many as there may be", many("arguments", `""`, maxValues-10), true},
		{"commas, brackets and colons", `{"arguments":["` + strings.Repeat(`,[:\"\\`, 100_000) + `",""]}`, true},
		{"too many", many("arguments", `""`, maxValues+1), false},
		{"too many, as bytes", many("arguments_base64", `""`, maxValues+1), false},
		{"too many, as lists of numbers", many("arguments_base64", `[]`, maxValues/2+1), false},
		{"too many variables", `{"environment":{` + strings.Repeat(`"x":"",`, maxValues/4) + `"":""}}`, false},
	} {
		if len(test.parameters) > varlink.MaxMessage {
			t.Errorf("%s: %d bytes", test.name, len(test.parameters))
		}
		_, request, err := asked(conn, json.RawMessage(test.parameters))
		if varlink.Unfit(err) == test.ok || (request != nil) != test.ok {
			t.Errorf("%s: error %v", test.name, err)
		}
	}
}
