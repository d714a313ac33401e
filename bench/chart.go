package main

import (
	"fmt"
	"strings"
)

// The chart has a group of bars for each mode of speed: messages a second as a part of C's.
const (
	barHeight  = 14
	groupGap   = 34
	chartLeft  = 150
	chartScale = 480 // pixels for 1
	chartWidth = chartLeft + chartScale*5/4 + 60
)

// chart draws the tables as SVG that can be read on a light and on a dark page.
func chart(tables []table) string {
	var body strings.Builder
	y := 10
	for _, t := range tables {
		if t.mode.idle > 0 {
			continue
		}
		y += groupGap - barHeight
		fmt.Fprintf(&body, `<text x="0" y="%d" class="mode">%s</text>`+"\n", y, t.mode.name)
		y += 6
		for _, r := range t.rows {
			ratio := t.ratio(r, rate)
			class := "peer"
			if r.server.program == "tcpserver" {
				class = "ours"
			}
			width := int(min(ratio, 1.25) * chartScale)
			fmt.Fprintf(&body, `<text x="%d" y="%d" class="name">%s</text>`, chartLeft-6, y+11, r.server.name)
			fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`, chartLeft, y, width,
				barHeight-3, class)
			fmt.Fprintf(&body, `<text x="%d" y="%d">%.2f</text>`+"\n", chartLeft+width+5, y+11, ratio)
			y += barHeight
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">
<title>Messages a second as a part of a bare epoll loop's in C</title>
<style>
text{fill:#24292f} .name{text-anchor:end} .mode{font-weight:bold;font-size:12px} .ours{fill:#1a7f5a} .peer{fill:#9aa4af}
@media (prefers-color-scheme:dark){text{fill:#e6edf3} .ours{fill:#3fb68b} .peer{fill:#5b6672}}
</style>
%s</svg>
`, chartWidth, y+12, body.String())
}
