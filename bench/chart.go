package main

import (
	"fmt"
	"strings"
)

// The chart has a panel for each mode that measures throughput, with a bar for each server. A bar is as long as the
// ratio in the table, and a line across its end is as long as the ratio's spread to either side.
const (
	panelColumns = 3
	panelWidth   = 320
	panelLeft    = 122 // room for the names
	panelHead    = 24
	barHeight    = 15
	barScale     = 85  // pixels for the ratio 1
	barLimit     = 1.5 // where longer bars are cut off
	captionSpace = 38
)

// chart draws the tables as SVG that is legible on a light and on a dark page.
func chart(tables []*table) string {
	var body strings.Builder
	panels, height, top := 0, 0, 0
	for _, t := range tables {
		if !t.mode.throughput() || len(t.rows) == 0 {
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
	bottom := top + height
	fmt.Fprintf(&body, `<text x="6" y="%d">Median throughput, divided by that of the first server of the panel.</text>
<text x="6" y="%d">±: spread of the ratio (95%% confidence interval), drawn as a line too. Bars end at %g.</text>
`, bottom+15, bottom+30, barLimit)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"
 font-family="sans-serif" font-size="11">
<title>Throughput of each server, divided by that of the first server of its panel</title>
<style>
text{fill:#24292f} .name{text-anchor:end} .mode{font-weight:bold;font-size:12px} .ours{fill:#1a7f5a} .peer{fill:#9aa4af}
.spread{stroke:#24292f}
@media (prefers-color-scheme:dark){text{fill:#e6edf3} .ours{fill:#3fb68b} .peer{fill:#5b6672} .spread{stroke:#e6edf3}}
</style>
%s</svg>
`, panelColumns*panelWidth, bottom+captionSpace, body.String())
}

func (t *table) drawPanel(b *strings.Builder) {
	fmt.Fprintf(b, `<text x="%d" y="16" class="mode">%s</text>`+"\n", panelLeft, t.mode.name)
	for i, r := range t.rows {
		ratio := t.ratio(i, rate)
		class := "peer"
		if r.server.program == "tcpserver" {
			class = "ours"
		}
		y, end := panelHead+i*barHeight, barEnd(ratio.value)
		fmt.Fprintf(b, `<text x="%d" y="%d" class="name">%s</text>`, panelLeft-6, y+10, r.server.name)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`,
			panelLeft, y, end-panelLeft, barHeight-3, class)
		if isFinite(ratio.spread) {
			from, to := barEnd(ratio.value*(1-ratio.spread)), barEnd(ratio.value*(1+ratio.spread))
			fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%d" y2="%[3]d" class="spread"/>`, from, to, y+6)
			end = to
		}
		fmt.Fprintf(b, `<text x="%d" y="%d">%v</text>`+"\n", end+5, y+10, ratio)
	}
}

// barEnd returns where the bar of a ratio ends. One that is unknown has no length.
func barEnd(ratio float64) int {
	if !isFinite(ratio) {
		return panelLeft
	}
	return panelLeft + int(min(max(ratio, 0), barLimit)*barScale)
}
