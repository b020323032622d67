//! The picture.

use crate::fits::{Curve, fits};
use crate::report::Report;
use plotters::prelude::*;
use std::error::Error;

const SIZE: (u32, u32) = (720, 640);
const INK: RGBColor = RGBColor(30, 30, 30);
const KNEE: RGBColor = RGBColor(20, 120, 60);
const RULE: RGBColor = RGBColor(190, 90, 20);

impl Report {
    /// Throughput with its intervals and the curve that fits best, and latency below it, over the
    /// number in flight; the limit to use is marked, and that of "waits + 1".
    ///
    /// # Errors
    /// If it can't be drawn.
    pub fn to_svg(&self) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE)).map_err(|error| error.to_string())?;
        Ok(svg)
    }

    fn draw(&self, backend: SVGBackend<'_>) -> Result<(), Box<dyn Error>> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let area = area.titled(&self.verdict(), ("sans-serif", 22).into_font().color(&INK))?;
        let (above, below) = area.split_vertically(360);
        let points = self.points();
        let (first, last) = (points[0].k as f64, points[points.len() - 1].k as f64);
        let width = first * 0.9..last * 1.15;
        let least = points.iter().map(|point| point.low).fold(f64::MAX, f64::min);
        let most = points.iter().map(|point| point.high).fold(0.0, f64::max);

        let mut chart = ChartBuilder::on(&above)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .build_cartesian_2d(width.clone().log_scale(), (least * 0.8..most * 1.3).log_scale())?;
        let number = |value: &f64| format!("{value:.0}");
        chart
            .configure_mesh()
            .x_desc("items in flight")
            .y_desc("items per second")
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .light_line_style(WHITE)
            .draw()?;
        let best = fits(&points)[0];
        let steps = (0..=200).map(|step| first * (last / first).powf(f64::from(step) / 200.0));
        let name = match best.curve {
            Curve::TwoLines { .. } => "until something is full",
            Curve::Usl { .. } => "Universal Scalability Law",
        };
        chart
            .draw_series(LineSeries::new(
                steps.map(|k| (k, best.curve.at(k))),
                BLUE.mix(0.4).stroke_width(2),
            ))?
            .label(format!("fit: {name}, {:.0} % off", 100.0 * best.error))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLUE.mix(0.4)));
        chart.draw_series(points.iter().map(|point| {
            ErrorBar::new_vertical(
                point.k as f64,
                point.low,
                point.rate,
                point.high,
                INK.filled(),
                8,
            )
        }))?;
        let rule = self.sweep.waits.map(|waits| waits + 1);
        let marks = [(Some(self.knee()), KNEE, "use this"), (rule, RULE, "waits + 1")];
        for (k, color, name) in marks {
            let Some(point) = points.iter().find(|point| Some(point.k) == k) else { continue };
            chart
                .draw_series([Circle::new((point.k as f64, point.rate), 7, color.stroke_width(3))])?
                .label(format!("{name}: K = {}, {:.0} items/s", point.k, point.rate))
                .legend(move |(x, y)| Circle::new((x + 10, y), 5, color.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(INK.mix(0.3))
            .draw()?;

        let rows = &self.findings.rows;
        let latencies =
            |quantile: f64| rows.iter().map(move |row| (row.k as f64, row.latency(quantile)));
        let least = latencies(0.5).map(|(_, time)| time).fold(f64::MAX, f64::min);
        let most = latencies(0.99).map(|(_, time)| time).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&below)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .build_cartesian_2d(width.log_scale(), (least * 0.8..most * 1.3).log_scale())?;
        let time = |value: &f64| format!("{value}");
        chart
            .configure_mesh()
            .x_desc("items in flight")
            .y_desc("ms per item")
            .x_label_formatter(&number)
            .y_label_formatter(&time)
            .light_line_style(WHITE)
            .draw()?;
        for (quantile, color, name) in
            [(0.5, INK, "half of the items take less"), (0.99, RED, "99 of 100")]
        {
            chart
                .draw_series(LineSeries::new(latencies(quantile), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(INK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}
