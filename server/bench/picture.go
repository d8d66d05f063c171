package main

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	panelWidth  = 14 * vg.Centimeter
	panelHeight = 9 * vg.Centimeter
	// points is how many of a distribution a curve has.
	points = 400
)

// picture draws how long changes took to arrive at most, of which share of them: a panel for each of some workloads and
// its parts, a curve for each subject, over all rounds.
func (r results) picture(file string, workloads ...string) error {
	if file == "" {
		return nil
	}
	var panels [][]*plot.Plot
	for _, report := range r.Reports {
		if !slices.Contains(workloads, report.Workload) {
			continue
		}
		for _, part := range names(report.Measures, func(m *measure) string { return m.Part }) {
			p, err := report.panel(part)
			if err != nil {
				return err
			}
			panels = append(panels, []*plot.Plot{p})
		}
	}
	if len(panels) == 0 {
		return errors.New("there is nothing to draw: of what is drawn nothing was measured")
	}
	return drawn(panels, file)
}

func drawn(panels [][]*plot.Plot, file string) (err error) {
	svg := vgsvg.New(panelWidth, panelHeight*vg.Length(len(panels)))
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadTop: vg.Millimeter, PadRight: 4 * vg.Millimeter, PadY: 4 * vg.Millimeter}
	for i, row := range plot.Align(panels, tiles, draw.New(svg)) {
		panels[i][0].Draw(row[0])
	}
	out, err := os.Create(filepath.Clean(file))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.WriterTo(svg).WriteTo(out)
	return err
}

// panel is the picture of a part.
func (r *report) panel(part string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = r.Workload
	if part != "" {
		p.Title.Text += ", " + part
	}
	p.X.Label.Text, p.Y.Label.Text = "from change to arrival, ms", "share that has arrived, %"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = 0, 100
	p.Add(plotter.NewGrid())
	for i, subject := range names(r.Measures, func(m *measure) string { return m.Subject }) {
		curve, err := plotter.NewLine(r.curve(part, subject))
		if err != nil {
			return nil, err
		}
		curve.Color, curve.Width = plotutil.Color(i), vg.Points(1.5)
		p.Add(curve)
		p.Legend.Add(subject, curve)
	}
	p.X.Max *= 5 // room for the legend
	return p, nil
}

// curve is the distribution of all times of a subject.
func (r *report) curve(part, subject string) (curve plotter.XYs) {
	var all []time.Duration
	for _, m := range r.Measures {
		if m.Part == part && m.Subject == subject {
			all = append(all, m.took...)
		}
	}
	slices.Sort(all)
	for i := range points {
		share := float64(i+1) / points
		if n := int(math.Ceil(share * float64(len(all)))); n > 0 {
			took := max(all[n-1], time.Microsecond)
			curve = append(curve, plotter.XY{X: took.Seconds() * 1000, Y: 100 * share})
		}
	}
	return curve
}
