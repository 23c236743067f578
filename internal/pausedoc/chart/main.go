// Chart draws docs/images/pauses.svg, whose path it is given, of what the
// benchmarks of pauses have printed, which it reads from standard input. It is a
// module of its own: nothing else in Darn draws.
package main

import (
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/darn-dev/darn/internal/pausedoc/results"
)

// lines are the kinds of operations in the chart. The colours are told apart by
// everybody.
var lines = []struct {
	name, text string
	color      color.RGBA
	dashed     bool // not Darn's
}{
	{"gdb", "gdb: attach and write", color.RGBA{A: 255}, true},
	{"delve-halt", "Delve: halt", color.RGBA{R: 204, G: 121, B: 167, A: 255}, true},
	{"ptrace", "ptrace alone", color.RGBA{R: 120, G: 120, B: 120, A: 255}, true},
	{"darn-load-first", "Darn: first load", color.RGBA{R: 213, G: 94, A: 255}, false},
	{"darn-load", "Darn: load", color.RGBA{R: 230, G: 159, A: 255}, false},
	{"darn-unload", "Darn: unload", color.RGBA{G: 114, B: 178, A: 255}, false},
	{"darn-activate", "Darn: first activation", color.RGBA{R: 86, G: 180, B: 233, A: 255}, false},
	{"darn-toggle", "Darn: toggle", color.RGBA{G: 158, B: 115, A: 255}, false},
	{"nothing", "nothing", color.RGBA{R: 190, G: 190, B: 190, A: 255}, true},
}

func main() {
	r, err := results.Read(os.Stdin)
	if err == nil {
		err = chart(r, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// chart draws the longest gap of any thread: lines through the medians, bars up
// to the 99th percentile, C on the left and Go on the right.
func chart(r *results.Results, path string) error {
	c, err := panel(r, "c", "C: longest gap in milliseconds, by threads")
	if err != nil {
		return err
	}
	g, err := panel(r, "go", "Go: longest gap in milliseconds, by goroutines")
	if err != nil {
		return err
	}
	low, high := min(c.Y.Min, g.Y.Min), max(c.Y.Max, g.Y.Max)
	for _, p := range []*plot.Plot{c, g} {
		p.Y.Min, p.Y.Max = low, high
	}
	// The legend has a place of its own, at the right of both.
	legend := c.Legend
	legend.Top, legend.Left, legend.Padding = true, true, vg.Points(5)
	c.Legend, g.Legend = plot.NewLegend(), plot.NewLegend()
	canvas := vgsvg.New(30*vg.Centimeter, 11*vg.Centimeter)
	dc := draw.New(canvas)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	const legendWidth = 6.2 * vg.Centimeter
	plots := draw.Crop(dc, 0, -legendWidth, 0, 0)
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Points(12), PadTop: vg.Points(6), PadBottom: vg.Points(4), PadLeft: vg.Points(4)}
	for i, p := range []*plot.Plot{c, g} {
		p.Draw(tiles.At(plots, i, 0))
	}
	legend.Draw(draw.Crop(dc, dc.Max.X-dc.Min.X-legendWidth+vg.Points(8), 0, 0, -vg.Points(24)))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// gaps are points with bars above them.
type gaps struct {
	plotter.XYs
	above []float64
}

func (g gaps) YError(i int) (float64, float64) { return 0, g.above[i] }

// panel draws the targets in a language.
func panel(r *results.Results, language, title string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{Y: 225}, nil
	p.Add(grid)
	var ticks plot.ConstantTicks
	for _, t := range r.Targets {
		if t.Language == language {
			ticks = append(ticks, plot.Tick{Value: float64(t.Number), Label: fmt.Sprint(t.Number)})
		}
	}
	p.X.Tick.Marker = ticks
	for i, l := range lines {
		// Beside one another, so that no bar hides another.
		aside := math.Pow(1.025, float64(i-len(lines)/2))
		var g gaps
		for _, t := range r.Targets {
			m := t.Operation(l.name)
			if m == nil || t.Language != language {
				continue
			}
			middle := m["any-p50-µs"] / 1000
			g.XYs = append(g.XYs, plotter.XY{X: float64(t.Number) * aside, Y: middle})
			g.above = append(g.above, m["any-p99-µs"]/1000-middle)
		}
		if len(g.XYs) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(g.XYs)
		if err != nil {
			return nil, err
		}
		bars, err := plotter.NewYErrorBars(g)
		if err != nil {
			return nil, err
		}
		line.Color, points.Color, bars.Color = l.color, l.color, l.color
		points.Shape, points.Radius = draw.CircleGlyph{}, vg.Points(2.5)
		line.Width, bars.Width, bars.CapWidth = vg.Points(2), vg.Points(0.7), vg.Points(4)
		if l.dashed {
			line.Width, line.Dashes = vg.Points(1.2), []vg.Length{vg.Points(5), vg.Points(3)}
		}
		p.Add(bars, line, points)
		p.Legend.Add(l.text, line, points)
	}
	p.Legend.ThumbnailWidth = vg.Points(24)
	return p, nil
}
