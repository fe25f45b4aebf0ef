//! What was measured, as a picture: throughput, CPU time and latency side by side.

use std::path::Path;

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::report::{PERCENTILES, Report, Row};

/// Pixels.
const SIZE: (u32, u32) = (1500, 460);
const CAPTION: (&str, u32) = ("sans-serif", 17);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a report into an SVG file.
pub(super) fn draw(report: &Report, path: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, 3));
    let [throughput, cost, latency] = &areas[..] else { anyhow::bail!("three areas") };
    let rates = |row: &Row| vec![("95 % GET, 5 % SET", row.mixed_rate.median), ("GET", row.gets_rate.median)];
    bars(throughput, report, "Thousand requests a second (higher is better)", false, rates)?;
    let costs = |row: &Row| {
        vec![
            ("network's intake, with BPF", row.cost_intake.median),
            ("server's process", row.cost_process.median),
        ]
    };
    bars(cost, report, "Server's CPU time for a GET, us (lower is better)", true, costs)?;
    lines(latency, report)?;
    root.present().with_context(|| path.display().to_string())
}

/// Bars of some figures for each side: side by side, or one on top of the other.
fn bars(
    area: &Area<'_>,
    report: &Report,
    caption: &str,
    is_stacked: bool,
    figures: impl Fn(&Row) -> Vec<(&'static str, f64)>,
) -> anyhow::Result<()> {
    let all: Vec<_> = report.sides.iter().map(&figures).collect();
    let top = |row: &Vec<(_, f64)>| {
        let values = row.iter().map(|(_, value)| *value);
        if is_stacked { values.sum::<f64>() } else { values.fold(0.0, f64::max) }
    };
    let highest = all.iter().map(top).fold(0.0, f64::max).max(1e-3);
    let count = all.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, CAPTION)
        .margin(12)
        .x_label_area_size(20)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..highest * 1.12, -0.5..count - 0.5)?;
    let name = |at: &f64| {
        nearest(&report.sides, count - 1.0 - at).map_or(String::new(), |row| row.side.name().to_owned())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(all.len() + 2)
        .y_label_formatter(&name)
        .x_label_formatter(&|value| format!("{value}"))
        .draw()?;
    let kinds = all.first().map_or(0, Vec::len);
    let thick = if is_stacked { 0.6 } else { 0.7 / kinds.max(1) as f64 };
    for kind in 0..kinds {
        let color = Palette99::pick(kind).to_rgba();
        let rectangles = all.iter().enumerate().filter_map(|(index, row)| {
            let (_, value) = row.get(kind)?;
            let before = row.iter().take(kind).map(|(_, value)| value).sum::<f64>();
            let from = if is_stacked { before } else { 0.0 };
            let lane = if is_stacked { 0.0 } else { thick * kind as f64 };
            let top = count - 1.0 - index as f64 + if is_stacked { 0.3 } else { 0.35 } - lane;
            Some(Rectangle::new([(from, top), (from + value, top - thick)], color.filled()))
        });
        let label = all.first().and_then(|row| row.get(kind)).map_or("", |(label, _)| label);
        chart
            .draw_series(rectangles)?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

/// Says what is what.
fn legend<'a, 'b: 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, C>,
    position: SeriesLabelPosition,
) -> anyhow::Result<()> {
    let mut labels = chart.configure_series_labels();
    labels.position(position).border_style(BLACK.mix(0.3)).background_style(WHITE).draw()?;
    Ok(())
}

/// Times of single GETs.
fn lines(area: &Area<'_>, report: &Report) -> anyhow::Result<()> {
    let all = || report.sides.iter().flat_map(|row| row.latency);
    let (low, high) = (all().fold(f64::MAX, f64::min).max(0.1), all().fold(1.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption("One GET after the other: us at percentiles (lower is better)", CAPTION)
        .margin(12)
        .x_label_area_size(20)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.2..PERCENTILES.len() as f64 - 0.8, (low * 0.8..high * 1.5).log_scale())?;
    let share = |at: &f64| nearest(&PERCENTILES, *at).map_or(String::new(), |share| format!("p{share}"));
    chart
        .configure_mesh()
        .x_labels(2 * PERCENTILES.len())
        .x_label_formatter(&share)
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (index, row) in report.sides.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let points = row.latency.iter().enumerate().map(|(at, time)| (at as f64, *time));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(row.side.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], color.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

/// What stands at this place of an axis, if anything does.
fn nearest<T>(of: &[T], at: f64) -> Option<&T> {
    of.iter().enumerate().find(|(index, _)| (*index as f64 - at).abs() < 0.01).map(|(_, item)| item)
}
