package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A plot is bars of medians, on a scale of powers of ten.
type plot struct {
	file, title string
	groups      []group
}

// A group is bars that belong together.
type group struct {
	title string
	bars  []bar
}

type bar struct {
	label  string
	median float64 // ms
	p95    float64 // ms, where the whisker ends
}

// plots returns those for which there are figures.
func (r *report) plots() []plot {
	var list []plot
	for _, p := range []struct{ file, title, prefix string }{
		{"chain.svg", "A pod's full chain (bridge, host-local, portmap, firewall, tuning, bandwidth), IPv4", fullChain.name()},
		{"bridge.svg", "bridge with masquerade, IPv4", "bridge IPv4"},
		{"start.svg", "The start of a process", "start"},
		{"crowd.svg", "100 full chains at once", "100 full chains"},
		{"removal.svg", "500 bridge attachments at once", "500 bridge"},
		{"present.svg", "bridge with others present", "attachments present"},
		{"ports.svg", "bridge with IPv6 and with others on it", "ports on the bridge"},
		{"pool.svg", "host-local with others' addresses held", "host-local, a /16"},
		{"portmap.svg", "portmap with others' ports mapped", "portmap, "},
	} {
		x := plot{file: p.file, title: p.title}
		for _, tm := range r.Timings {
			if !strings.HasPrefix(tm.Scenario, p.prefix) {
				continue
			}
			title := tm.Verb
			if _, which, ok := strings.Cut(tm.Scenario, ": "); ok {
				title = which + ", " + tm.Verb
			}
			if strings.HasPrefix(tm.Scenario, "portmap") {
				title = tm.Scenario
			}
			if n := len(x.groups); n == 0 || x.groups[n-1].title != title {
				x.groups = append(x.groups, group{title: title})
			}
			g := &x.groups[len(x.groups)-1]
			g.bars = append(g.bars, bar{tm.Contender, tm.Median, tm.P95})
		}
		if len(x.groups) > 0 {
			list = append(list, x)
		}
	}
	return list
}

// Sizes of a plot, in pixels.
const (
	plotWidth  = 860
	plotLeft   = 230 // where bars begin
	plotRight  = 750 // where the longest may end
	plotRow    = 22
	plotMargin = 46
)

// svg draws a plot, as SVG 1.1.
func (p plot) svg() string {
	low, high := math.Inf(1), 0.0
	rows := 0
	for _, g := range p.groups {
		rows += 1 + len(g.bars)
		for _, b := range g.bars {
			low, high = min(low, b.median), max(high, b.p95)
		}
	}
	from, to := math.Floor(math.Log10(low*0.999)), math.Ceil(math.Log10(high))
	at := func(ms float64) float64 { return plotLeft + (math.Log10(ms)-from)/(to-from)*(plotRight-plotLeft) }

	height := plotMargin + rows*plotRow + 34
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	text := func(x, y float64, anchor, more, words string) {
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(words))
	}
	text(12, 24, "start", ` font-size="16" font-weight="bold"`, p.title)
	for e := from; e <= to; e++ {
		x := at(math.Pow(10, e))
		fmt.Fprintf(&s, `<line x1="%.1f" y1="%d" x2="%[1]f" y2="%d" stroke="#ddd"/>`+"\n", x, plotMargin-8, height-28)
		text(x, float64(height-10), "middle", ` fill="#555"`, figure(math.Pow(10, e))+" ms")
	}
	y := float64(plotMargin)
	for _, g := range p.groups {
		text(12, y+15, "start", ` font-weight="bold"`, g.title)
		y += plotRow
		for _, b := range g.bars {
			colour := "#9aa5b1"
			if strings.HasPrefix(b.label, "plumb") || strings.HasPrefix(g.title, "plumb") || strings.Contains(g.title, ": plumb") {
				colour = "#2f7d5b"
			}
			text(plotLeft-8, y+15, "end", "", b.label)
			fmt.Fprintf(&s, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", plotLeft, y+2, at(b.median)-plotLeft, plotRow-5, colour)
			fmt.Fprintf(&s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%[2]f" stroke="#333"/>`+"\n", at(b.median), y+2+float64(plotRow-5)/2, at(b.p95))
			text(at(b.p95)+6, y+15, "start", "", figure(b.median))
			y += plotRow
		}
	}
	text(plotWidth-12, float64(height-10), "end", ` fill="#555"`, "median to p95")
	s.WriteString("</svg>\n")
	return s.String()
}
