// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCommand(t *testing.T) {
	argv := func(words ...string) Command { return Command{Argv: words} }
	shell := func(text string) Command { return Command{Shell: text} }
	for text, want := range map[string]Command{
		// Plain words need no shell.
		"/usr/sbin/dnsmasq -k":               argv("/usr/sbin/dnsmasq", "-k"),
		"  exec \t/usr/sbin/dnsmasq  -k\n\n": argv("/usr/sbin/dnsmasq", "-k"),
		"a --b=c,d:e@f%g+h":                  argv("a", "--b=c,d:e@f%g+h"),
		"execute exec":                       argv("execute", "exec"),
		"a A=1":                              argv("a", "A=1"),

		// Everything else is for a shell.
		"a 'b c'":                 shell("exec a 'b c'"),
		"exec a 'b c'":            shell("exec a 'b c'"),
		"exec -a name a":          shell("exec -a name a"),
		"a $B":                    shell("exec a $B"),
		"a ~":                     shell("exec a ~"),
		"$(x; y) z":               shell("exec $(x; y) z"),
		"`x; y` z":                shell("exec `x; y` z"),
		`"a;b" ';&|' \;`:          shell(`exec "a;b" ';&|' \;`),
		`"$(echo "a;b")" ${A:-;}`: shell(`exec "$(echo "a;b")" ${A:-;}`),
		`"it's (fine" '"'`:        shell(`exec "it's (fine" '"'`),
		"a >/dev/null 2>&1":       shell("exec a >/dev/null 2>&1"),
		"a >|b":                   shell("exec a >|b"),
		"a#b $C":                  shell("exec a#b $C"),

		"a > /dev/null 2> b": shell("exec a > /dev/null 2> b"),

		// The exec comes behind assignments and redirections.
		"2>/dev/null a":               shell("2>/dev/null exec a"),
		"< x A=1 a":                   shell("< x A=1 exec a"),
		"exec 3>/x 2>&3; exec a":      shell("exec 3>/x 2>&3; exec a"),
		"[ -f /x ] && exec a; exec b": shell("[ -f /x ] && exec a; exec b"),
		"A=1 b":                       shell("A=1 exec b"),
		"A=$(x; y) B= c":              shell("A=$(x; y) B= exec c"),
		"A='1 2' exec b":              shell("A='1 2' exec b"),
		"A=1; exec b":                 shell("A=1; exec b"),
		"A=1; b":                      shell("A=1; exec b"),
		"A=1\nb":                      shell("A=1\nexec b"),

		// An exec in command position is enough, anywhere else it is a word.
		"cd /x && exec b":            shell("cd /x && exec b"),
		"x||exec b":                  shell("x||exec b"),
		"x\n  exec b":                shell("x\n  exec b"),
		"if x; then A=1; fi; exec b": shell("if x; then A=1; fi; exec b"),
		"a exec $B":                  shell("exec a exec $B"),
		"a '; exec '":                shell("exec a '; exec '"),
		"$(if x; then exec y; fi) z": shell("exec $(if x; then exec y; fi) z"),
		"a \\\n  b":                  shell("exec a \\\n  b"),
		"# comment; exec\na $B":      shell("# comment; exec\nexec a $B"),

		"x $A\r\nexec b\r\n": shell("x $A\nexec b"),

		// What is at the end must not swallow the arguments.
		"a $B \n\n":                            shell("exec a $B"),
		"a $B # comment":                       shell("exec a $B"),
		"a $B # it's a comment\n  # another\n": shell("exec a $B"),
		"a $B\\\n":                             shell("exec a $B"),
		"a $B\\ ":                              shell("exec a $B\\ "),
	} {
		got, err := parseCommand(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                          "is empty",
		" \t\n":                     "is empty",
		"# a comment":               "is empty",
		"exec":                      "no command after exec",
		"exec # a":                  "no command after exec",
		"A=1; exec":                 "no command after exec",
		"A=1":                       "no command after the variable assignment",
		"a; A=1":                    "no command after the variable assignment",
		"> /x":                      "or the redirection",
		"A=1 2>/x":                  "or the redirection",
		"a >":                       "leads nowhere",
		"exec a 2> # comment":       "leads nowhere",
		"exec a > ; exec b":         "leads nowhere",
		"exec a >\nexec b":          "leads nowhere",
		"exec a &>/x":               "write >FILE 2>&1",
		"exec 2>/dev/null":          "no command after exec",
		"exec > /x 2>&1":            "no command after exec",
		"exec 2>/x; a":              "several commands",
		"exec a; b":                 "several commands",
		"[ -f /x ] && exec a || b":  "several commands",
		"if x; then exec y; fi":     "compound command",
		"{ exec a; }":               "compound command",
		"a; b":                      "several commands",
		"a\nb":                      "several commands",
		"a | b":                     "several commands",
		"cd /x && b":                "several commands",
		"a;":                        `ends with ";"`,
		"exec a &":                  `ends with "&"`,
		"exec a & # comment\n":      `ends with "&"`,
		";":                         `ends with ";"`,
		"a 'b":                      "not closed",
		`a "b`:                      "not closed",
		"a $(b":                     "not closed",
		`a \`:                       "not closed",
		"if x; then y; fi":          "compound command",
		"(a; b)":                    "compound command",
		"{ a; }":                    "compound command",
		"a\x00":                     "NUL",
		strings.Repeat("(", 100000): "not closed",
	} {
		if got, err := parseCommand(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100q: %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// The shell text of every form has to hand arguments over as they are, and to
// leave no shell behind: the process has the shell's pid.
func TestShellTextInShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	const show = `sh -c 'printf "%s|" $$ "$@"' show`
	for _, text := range []string{
		show,
		"exec " + show,
		"A=1 " + show,
		"A='1 2' exec " + show,
		"A=1; " + show,
		"true && exec " + show,
		show + " # comment",
		show + "\n# comment\n",
		show + " \\\n",
		`$(if [ -f /none ]; then echo none; else echo "sh -c"; fi) 'printf "%s|" $$ "$@"' show`,
		show + " 2>&1",
		"2>&1 " + show,
		"< /dev/null A=1 " + show,
		"exec 3>/dev/null; exec " + show,
	} {
		c, err := parseCommand(text)
		if err != nil || c.Shell == "" {
			t.Errorf("%q: %+v, %v", text, c, err)
			continue
		}
		cmd := exec.Command(sh, "-c", `echo $$; `+c.Shell+` "$@"`, "sh", "a b", "", "c;d")
		out, err := cmd.CombinedOutput()
		pid, args, _ := strings.Cut(string(out), "\n")
		if want := pid + "|a b||c;d|"; err != nil || args != want {
			t.Errorf("%q, run as %q: %q, %v; want %q", text, c.Shell, args, err, want)
		}
	}
}

func TestCheckArgv(t *testing.T) {
	for _, argv := range [][]string{nil, {}, {""}, {"a", "b\x00"}} {
		if checkArgv(argv) == nil {
			t.Errorf("%.20q is accepted", argv)
		}
	}
	if err := checkArgv([]string{"a", "", "b c\n"}); err != nil {
		t.Error(err)
	}
}
