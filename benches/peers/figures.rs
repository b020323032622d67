//! What is drawn of the figures.

use crate::growth::{Point, Series};
use crate::harness::Report;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

type Result = std::result::Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const COLOURS: [RGBColor; 4] = [
    RGBColor(150, 150, 150),
    RGBColor(30, 110, 160),
    RGBColor(220, 130, 40),
    RGBColor(90, 150, 70),
];
const WORSE: RGBColor = RGBColor(204, 51, 51);

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// How many times better gondola is than the best peer, as bars on a logarithmic scale.
pub(crate) fn factors(file: &Path, reports: &[Report<'_>]) -> Result {
    const HEIGHT: usize = 20;
    let bars: Vec<_> = reports.iter().filter_map(Report::factor).collect();
    let size = (900, ((bars.len() + 3) * HEIGHT) as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let title = "cost of the best peer over gondola's, from 1/8 to 8; red: the peer is better";
    let area = root.titled(title, font(14))?;
    let count = bars.len().max(1) as f64;
    let mut chart = ChartBuilder::on(&area)
        .margin_right(30)
        .x_label_area_size(24)
        .y_label_area_size(400)
        .build_cartesian_2d((0.125..8.0_f64).log_scale().base(2.0), 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, (label, factor)) in bars.iter().enumerate() {
        let middle = count - index as f64 - 0.5;
        let colour = if *factor < 1.0 { WORSE } else { COLOURS[1] };
        let bar = [(1.0, middle - 0.35), (factor.clamp(0.125, 8.0), middle + 0.35)];
        chart.plotting_area().draw(&Rectangle::new(bar, colour.filled()))?;
        let (_, y) = chart.backend_coord(&(1.0, middle));
        let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(format!("{label} ({factor:.1})"), (8, y), style))?;
    }
    Ok(root.present()?)
}

/// For each series its two figures, one above the other.
pub(crate) fn growth(file: &Path, series: &[Series]) -> Result {
    const COLUMNS: usize = 3;
    let rows = series.len().div_ceil(COLUMNS);
    let area = SVGBackend::new(file, (960, 460 * rows as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, series) in area.split_evenly((rows, COLUMNS)).iter().zip(series) {
        let area = area.titled(series.name, font(15))?;
        for (((who, _), colour), x) in series.lines.iter().zip(COLOURS).zip([50, 110, 180, 260]) {
            area.draw(&Text::new(who.as_str(), (x, 4), font(12).color(&colour)))?;
        }
        let (above, below) = area.margin(18, 0, 0, 0).split_vertically(210);
        panel(&above, series, 0)?;
        panel(&below, series, 1)?;
    }
    Ok(area.present()?)
}

/// Time from zero, or by powers of ten if it changes a lot; memory always so.
fn panel(area: &Area<'_>, series: &Series, figure: usize) -> Result {
    let of = |points: &[Point]| points.iter().map(|p| p.figures[figure].max(1.0)).collect();
    let lines: Vec<Vec<f64>> = series.lines.iter().map(|(_, points)| of(points)).collect();
    let most = |line: &Vec<f64>| line.iter().copied().fold(1.0, f64::max);
    let least = |line: &Vec<f64>| line.iter().copied().fold(f64::INFINITY, f64::min);
    let powers = figure == 1 || lines.iter().any(|line| most(line) > 30.0 * least(line));
    let y = |value: f64| if powers { value.log10() } else { value };
    let sizes: Vec<_> = series.lines[0].1.iter().map(|p| (p.size as f64).log10()).collect();
    let (begin, end) = (sizes[0], sizes[sizes.len() - 1]);
    let top = lines.iter().map(most).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(series.units[figure], font(12))
        .margin(8)
        .x_label_area_size(22)
        .y_label_area_size(40)
        .build_cartesian_2d(begin..end, 0.0..y(top) * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(font(11))
        .x_labels(sizes.len())
        .y_labels(5)
        .x_label_formatter(&|x| power(*x))
        .y_label_formatter(&|y| if powers { power(*y) } else { y.to_string() })
        .draw()?;
    for (line, colour) in lines.into_iter().zip(COLOURS) {
        let line = sizes.iter().copied().zip(line.into_iter().map(y));
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)).point_size(2))?;
    }
    Ok(())
}

/// Of ten; nothing in between.
fn power(x: f64) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    match DIGITS.get(x as usize) {
        Some(digit) if x.fract() == 0.0 => format!("10{digit}"),
        _ => String::new(),
    }
}
