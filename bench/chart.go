package main

import (
	"fmt"
	"strings"
)

// The chart has a panel for each mode of speed, and in it a bar for each server: messages a second as a part of what the
// first server has.
const (
	panelColumns = 3
	panelWidth   = 310
	panelLeft    = 122 // room for the names
	panelHead    = 24
	barHeight    = 15
	barScale     = 100 // pixels for 1
	barMost      = 1.5 // longer ones are cut off
)

// chart draws the tables as SVG that can be read on a light and on a dark page.
func chart(tables []table) string {
	var body strings.Builder
	panels, height, top := 0, 0, 0
	for _, t := range tables {
		if t.mode.idle > 0 || t.mode.ramp || t.mode.burst > 0 || len(t.rows) == 0 {
			continue
		}
		if panels%panelColumns == 0 {
			top += height
			height = 0
		}
		fmt.Fprintf(&body, `<g transform="translate(%d %d)">`+"\n", panels%panelColumns*panelWidth, top)
		t.drawPanel(&body)
		body.WriteString("</g>\n")
		height = max(height, panelHead+len(t.rows)*barHeight+8)
		panels++
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">
<title>Messages a second as a part of those of the first server of each panel</title>
<style>
text{fill:#24292f} .name{text-anchor:end} .mode{font-weight:bold;font-size:12px} .ours{fill:#1a7f5a} .peer{fill:#9aa4af}
@media (prefers-color-scheme:dark){text{fill:#e6edf3} .ours{fill:#3fb68b} .peer{fill:#5b6672}}
</style>
%s</svg>
`, panelColumns*panelWidth, top+height, body.String())
}

func (t table) drawPanel(b *strings.Builder) {
	fmt.Fprintf(b, `<text x="%d" y="16" class="mode">%s</text>`+"\n", panelLeft, t.mode.name)
	for i, r := range t.rows {
		ratio := t.ratio(r, rate)
		class := "peer"
		if r.server.program == "tcpserver" {
			class = "ours"
		}
		y, width := panelHead+i*barHeight, int(min(ratio, barMost)*barScale)
		fmt.Fprintf(b, `<text x="%d" y="%d" class="name">%s</text>`, panelLeft-6, y+10, r.server.name)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`, panelLeft, y, width, barHeight-3, class)
		fmt.Fprintf(b, `<text x="%d" y="%d">%.2f</text>`+"\n", panelLeft+width+5, y+10, ratio)
	}
}
