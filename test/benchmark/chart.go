// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"time"
)

// Sizes in pixels.
const (
	chartWidth = 860
	namesWidth = 250 // of the text at the left
	rowHeight  = 17
	groupSpace = 9
	headHeight = 44
	valueWidth = 150 // of the text behind a bar
)

// Text is text, and colours are the page's: light, or dark where that is wanted.
const chartStyle = `
svg { background: #ffffff }
text { font: 12px system-ui, "Segoe UI", "Noto Sans", "Liberation Sans", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: bold }
.size { fill: #656d76 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.quartiles { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 }
  text { fill: #e6edf3 }
  .size { fill: #9198a1 }
  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .quartiles { stroke: #e6edf3 }
}
`

// A bar is the median of a figure, with its quartiles.
type bar struct {
	size             string
	value, low, high time.Duration
	note             string
}

// A group is the bars of a contender.
type group struct {
	name string
	ours bool
	bars []bar
}

// A panel is one chart of the picture.
type panel struct {
	title  string
	groups []group
}

// chart draws single calls and bursts.
func chart(b *bench) []byte {
	calls := panel{title: "From the call to a sidecar that is ready"}
	bursts := panel{title: "Each sidecar of a burst"}
	for _, c := range b.contenders {
		if c.noSidecar {
			continue
		}
		warmCalls, burstCalls := group{name: c.name, ours: c.ours()}, group{name: c.name, ours: c.ours()}
		for _, n := range b.plan.running {
			if all := b.results[key{warm, c.name, n}]; len(all) > 0 {
				warmCalls.bars = append(warmCalls.bars, barOf(fmt.Sprintf("%d running", n), all, wallOf))
			}
		}
		for _, n := range b.plan.bursts {
			all := b.results[key{burst, c.name, n}]
			up := median(all, upOf)
			if up == 0 {
				continue
			}
			each := barOf(fmt.Sprintf("%d at once", n), all, eachOf)
			if up < n {
				each.note = fmt.Sprintf(", %d of %d up", up, n)
			}
			burstCalls.bars = append(burstCalls.bars, each)
		}
		calls.groups = append(calls.groups, warmCalls)
		bursts.groups = append(bursts.groups, burstCalls)
	}
	return draw(calls, bursts)
}

// eachOf is what a sidecar of a burst takes.
func eachOf(m measurement) time.Duration { return m.wall / time.Duration(max(m.up, 1)) }

func barOf(size string, all []measurement, value func(measurement) time.Duration) bar {
	return bar{size: size, value: median(all, value), low: quantile(all, 0.25, value), high: quantile(all, 0.75, value)}
}

// draw makes an SVG of panels, one below the other.
func draw(panels ...panel) []byte {
	var body bytes.Buffer
	y := 0
	for _, p := range panels {
		y = p.draw(&body, y)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\">\n",
		chartWidth, y+groupSpace)
	fmt.Fprintf(&b, "<style>%s</style>\n", chartStyle)
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw draws a panel from y on, and returns where it ends.
func (p panel) draw(b *bytes.Buffer, y int) int {
	var most time.Duration = 1
	for _, g := range p.groups {
		for _, bar := range g.bars {
			most = max(most, bar.high, bar.value)
		}
	}
	x := func(d time.Duration) float64 {
		return namesWidth + float64(d)/float64(most)*(chartWidth-namesWidth-valueWidth)
	}
	text(b, "title", 16, y+28, p.title)
	y += headHeight
	for _, g := range p.groups {
		class := "bar"
		if g.ours {
			class = "bar ours"
		}
		for i, bar := range g.bars {
			middle, base := float64(y)+rowHeight/2.0, y+rowHeight-5
			if i == 0 {
				text(b, "", 16, base, g.name)
			}
			text(b, "size", namesWidth-100, base, bar.size)
			fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n",
				class, namesWidth, y+2, x(bar.value)-namesWidth, rowHeight-4)
			fmt.Fprintf(b, "<line class=\"quartiles\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%[2]g\"/>\n",
				x(bar.low), middle, x(bar.high))
			text(b, "", int(x(max(bar.value, bar.high)))+6, base, duration(bar.value)+bar.note)
			y += rowHeight
		}
		if len(g.bars) > 0 {
			y += groupSpace
		}
	}
	return y
}

func text(b *bytes.Buffer, class string, x, y int, content string) {
	fmt.Fprintf(b, "<text class=\"%s\" x=\"%d\" y=\"%d\">", class, x, y)
	xml.EscapeText(b, []byte(content)) // a buffer does not fail
	b.WriteString("</text>\n")
}
