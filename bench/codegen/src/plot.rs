//! What was measured, as a picture: a group of bars for each program.

use std::path::Path;

use anyhow::Context as _;
use plotters::prelude::*;

use crate::report::Report;

/// Pixels.
const GROUP_WIDTH: u32 = 110;
const HEIGHT: u32 = 480;
/// Bars are cut off here: a single slow program would flatten all others. The table has the figures.
const CUT: f64 = 3.0;

/// Draws ratios to native -O2 into an SVG file, without the contender named `left_out`.
pub(crate) fn draw(report: &Report, left_out: &str, path: &Path) -> anyhow::Result<()> {
    let names: Vec<&String> = report.names().filter(|name| *name != left_out).collect();
    let groups = report.programs.len() + 1;
    let width = GROUP_WIDTH * u32::try_from(groups)? + 80;
    let root = SVGBackend::new(path, (width, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Time relative to clang -O2 (lower is faster)", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(-0.5..groups as f64 - 0.5, 0.0..CUT)?;
    let program = |at: &f64| {
        let group = at.round() as usize;
        report.programs.get(group).map_or("geomean".to_owned(), |measured| measured.program.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(groups + 2)
        .x_label_formatter(&program)
        .y_labels(7)
        .draw()?;
    let bar = 0.8 / names.len().max(1) as f64;
    for (index, &name) in names.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let ratios = report.programs.iter().map(|measured| measured.ratio(name));
        let bars = ratios.chain([report.geomean(name)]).enumerate().filter_map(|(group, ratio)| {
            let left = group as f64 - 0.4 + bar * index as f64;
            Some(Rectangle::new([(left, 0.0), (left + bar * 0.9, ratio?.min(CUT))], color.filled()))
        });
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    let native = PathElement::new(vec![(-0.5, 1.0), (groups as f64 - 0.5, 1.0)], BLACK);
    chart.draw_series([native])?;
    chart.configure_series_labels().border_style(BLACK.mix(0.3)).background_style(WHITE.mix(0.8)).draw()?;
    root.present().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_programs_and_contenders() {
        let path = std::env::temp_dir().join(format!("bench-codegen-{}.svg", std::process::id()));
        draw(&crate::report::tests::report(), "b", &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let texts = ["first", "second", "geomean", "a"];
        let has = |text: &str| svg.lines().any(|line| line == text);
        assert!(texts.into_iter().all(has), "{svg}");
        assert!(!has("b"), "left out");
    }
}
