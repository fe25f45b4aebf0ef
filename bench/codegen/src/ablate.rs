//! What each pass is worth: without it (all others on), and alone.

use bpf_arena::codegen::{Pass, PassSet};
use comfy_table::Table;

use crate::engines::{Contender, Engine};
use crate::report::{Report, table};

const ALL: &str = "all";
const NONE: &str = "none";

/// Our compiler with all passes, with none, and for each pass without it and with it alone.
pub(crate) fn contenders(engine: Engine) -> Vec<Contender> {
    let contender = |name: &str, passes| Contender { name: name.to_owned(), engine, passes };
    let mut contenders = vec![contender(ALL, PassSet::ALL), contender(NONE, PassSet::NONE)];
    for pass in Pass::ALL {
        contenders.push(contender(&without(pass), PassSet::ALL.without(pass)));
        contenders.push(contender(&alone(pass), PassSet::NONE.with(pass)));
    }
    contenders
}

fn without(pass: Pass) -> String {
    format!("without {}", pass.name())
}

fn alone(pass: Pass) -> String {
    format!("{} alone", pass.name())
}

/// A line for each pass: mean ratios to native, what it gains, and the program that gains most.
pub(crate) fn passes(report: &Report) -> Table {
    let header = ["pass", "without", "gain", "alone", "gain alone", "most, without to all"];
    let mut table = table(header.map(str::to_owned));
    let mean = |name: &str| report.geomean(name).unwrap_or(f64::NAN);
    let (all, none) = (mean(ALL), mean(NONE));
    for pass in Pass::ALL {
        let (without, alone) = (without(pass), alone(pass));
        let gains = report.programs.iter().filter_map(|measured| {
            let (off, on) = (measured.ratio(&without)?, measured.ratio(ALL)?);
            Some((off / on, format!("{}: {off:.2} to {on:.2}", measured.program)))
        });
        let most = gains.max_by(|a, b| a.0.total_cmp(&b.0));
        table.add_row([
            pass.name().to_owned(),
            format!("{:.3}", mean(&without)),
            percent(mean(&without), all),
            format!("{:.3}", mean(&alone)),
            percent(none, mean(&alone)),
            most.map_or_else(String::new, |(_, text)| text),
        ]);
    }
    table.add_row(["all of them".to_owned(), format!("{none:.3}"), percent(none, all), format!("{all:.3}")]);
    table
}

/// Every program without each pass, as a multiple of its time with all: above 1, the pass is of use to it.
pub(crate) fn programs(report: &Report) -> Table {
    let passes = Pass::ALL.map(|pass| pass.name().to_owned());
    let mut table = table(["program", "all", "none"].map(str::to_owned).into_iter().chain(passes));
    for measured in &report.programs {
        let all = measured.ratio(ALL).unwrap_or(f64::NAN);
        let mut row = vec![measured.program.clone(), format!("{all:.2}")];
        row.push(measured.ratio(NONE).map_or("-".to_owned(), |none| format!("{none:.2}")));
        row.extend(Pass::ALL.map(|pass| {
            let off = measured.ratio(&without(pass));
            off.map_or("-".to_owned(), |off| format!("{:.2}", off / all))
        }));
        table.add_row(row);
    }
    table
}

/// How much less time `after` is than `before`.
fn percent(before: f64, after: f64) -> String {
    format!("{:.1} %", (1.0 - after / before) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_left_out_once_and_alone_once() {
        let contenders = contenders(Engine::JitV4);
        assert_eq!(contenders.len(), 2 + 2 * Pass::ALL.len());
        for pass in Pass::ALL {
            let with = contenders.iter().filter(|contender| contender.passes.contains(pass)).count();
            // With all, alone, and whenever another one is left out.
            assert_eq!(with, 2 + Pass::ALL.len() - 1, "{}", pass.name());
        }
    }

    #[test]
    fn gains_are_in_percent_of_the_time_before() {
        assert_eq!(percent(2.0, 1.5), "25.0 %");
        assert_eq!(percent(1.0, 1.1), "-10.0 %");
    }
}
