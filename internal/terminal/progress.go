// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"strings"
	"sync"
)

// A Progress is a bar that shows how much of something is done. On what is no
// terminal it is not drawn.
type Progress struct {
	terminal    *Terminal
	mu          sync.Mutex
	done, total int
}

// Progress begins a bar.
func (t *Terminal) Progress(total int) *Progress {
	p := &Progress{terminal: t, total: total}
	p.draw()
	return p
}

// Step says that one more is done, and prints a line about it above the bar,
// unless that is empty.
func (p *Progress) Step(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if line != "" {
		p.clear()
		fmt.Fprintln(p.terminal, line)
	}
	p.draw()
}

// End takes the bar away.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

const barWidth = 40

func (p *Progress) draw() {
	if !p.terminal.Interactive() || p.total == 0 {
		return
	}
	filled := min(barWidth, barWidth*p.done/p.total)
	fmt.Fprintf(p.terminal, "\r[%s%s] %d of %d", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), p.done, p.total)
}

func (p *Progress) clear() {
	if p.terminal.Interactive() {
		fmt.Fprint(p.terminal, "\r\x1b[K")
	}
}
