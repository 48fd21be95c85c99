//! A figure of one or more panels side by side that share their axes' names, as SVG.

use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// One panel's size in pixels.
const SIZE: (u32, u32) = (420, 380);
/// Colours that are told apart by who sees red and green alike (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(80, 80, 80),
];
const FONT: &str = "sans-serif";

#[derive(Debug, Default)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) is_log: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) panels: Vec<Panel>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Done = Result<(), Box<dyn std::error::Error>>;

impl Figure {
    /// Writes the figure to `path`.
    pub(crate) fn draw(&self, path: &Path) -> Done {
        let panels = u32::try_from(self.panels.len())?;
        let root = SVGBackend::new(path, (SIZE.0 * panels, SIZE.1)).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(&self.title, (FONT, 20))?;
        for (area, panel) in root.split_evenly((1, self.panels.len())).iter().zip(&self.panels) {
            // A scale is a type here: four kinds of panels.
            let points = || panel.lines.iter().flat_map(|line| &line.points);
            let x = range(points().map(|point| point.0), self.x.is_log, 1.6);
            // Room for the legend.
            let y = range(
                points().map(|point| point.1),
                self.y.is_log,
                if panel.lines.len() > 3 { 30.0 } else { 6.0 },
            );
            match (self.x.is_log, self.y.is_log) {
                (false, false) => self.panel(area, panel, x, y)?,
                (true, false) => self.panel(area, panel, x.log_scale(), y)?,
                (false, true) => self.panel(area, panel, x, y.log_scale())?,
                (true, true) => self.panel(area, panel, x.log_scale(), y.log_scale())?,
            }
        }
        root.present()?;
        Ok(())
    }

    fn panel<X, Y>(&self, area: &Area<'_>, panel: &Panel, x: X, y: Y) -> Done
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, (FONT, 15))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(56)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_labels(6)
            .y_labels(5)
            .label_style((FONT, 12))
            .axis_desc_style((FONT, 13))
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .light_line_style(WHITE)
            .draw()?;
        for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = line.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        if panel.lines.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .label_font((FONT, 12))
                .draw()?;
        }
        Ok(())
    }
}

/// From the smallest to the largest, with some room; above, `above` times as much where the scale is logarithmic.
fn range(values: impl Iterator<Item = f64>, is_log: bool, above: f64) -> Range<f64> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    if is_log {
        (least / 1.6).max(f64::MIN_POSITIVE)..most * above
    } else {
        (least - 10.0).max(0.0)..most + 5.0
    }
}

/// A number as short as it goes: 0.5, 20, 200k, 1M.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e4 => format!("{}k", value / 1e3),
        value if value >= 1.0 => format!("{value:.0}"),
        value => format!("{value}"),
    }
}
