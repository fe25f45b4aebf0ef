//! What was measured, as text.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::measure::{Clock, Measured, Plan};
use crate::stats::geomean;

/// Everything measured: the JSON file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Which time the ratios are of.
    pub(crate) clock: Clock,
    /// Rounds of each program.
    pub(crate) rounds: usize,
    /// One for each contender that ran anything: the geometric mean of the programs' median ratios.
    pub(crate) geomeans: Vec<Mean>,
    /// One for each program.
    pub(crate) programs: Vec<Measured>,
}

/// The mean of a contender.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Mean {
    /// Which one.
    pub(crate) name: String,
    /// Its mean ratio to native -O2.
    pub(crate) ratio: f64,
    /// Programs that it ran.
    pub(crate) programs: usize,
}

impl Report {
    /// Sums up.
    pub(crate) fn new(plan: &Plan, programs: Vec<Measured>) -> Self {
        let mean = |name: &String| {
            let ratios = || programs.iter().filter_map(|measured| measured.ratio(name));
            Some(Mean { name: name.clone(), ratio: geomean(ratios())?, programs: ratios().count() })
        };
        let geomeans = plan.contenders.iter().filter_map(|contender| mean(&contender.name)).collect();
        Self { clock: plan.clock, rounds: plan.rounds, geomeans, programs }
    }

    /// The contenders that ran anything.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> + '_ {
        self.geomeans.iter().map(|mean| &mean.name)
    }

    /// The mean ratio of a contender.
    pub(crate) fn geomean(&self, name: &str) -> Option<f64> {
        self.geomeans.iter().find(|mean| mean.name == name).map(|mean| mean.ratio)
    }

    /// Ratios: a line for each program, a column for each contender.
    pub(crate) fn ratios(&self) -> Table {
        let mut table =
            table(["program", "native ms"].map(str::to_owned).into_iter().chain(self.names().cloned()));
        for measured in &self.programs {
            let mut row = vec![measured.program.clone(), format!("{:.1}", measured.native_ms.median)];
            row.extend(self.names().map(|name| {
                let ratio = measured.side(name).and_then(|side| side.ratio);
                ratio.map_or("-".to_owned(), |r| format!("{:.2} ({:.2}-{:.2})", r.median, r.lower, r.upper))
            }));
            table.add_row(row);
        }
        let mut row = vec!["geomean".to_owned(), String::new()];
        row.extend(self.geomeans.iter().map(|mean| format!("{:.3}", mean.ratio)));
        table.add_row(row);
        table
    }

    /// Instructions of BPF, how long compiling takes, and bytes of code.
    pub(crate) fn code(&self) -> Table {
        let first = ["program", "BPF insns", "us/insn", "bytes: native-o2"].map(str::to_owned);
        let mut table = table(first.into_iter().chain(self.names().cloned()));
        let number = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        for measured in &self.programs {
            // Of the last contender that is compiled by us: version 4.
            let ours = measured.sides.iter().map(|side| side.code).rfind(|code| code.bpf_insns.is_some());
            let per_insn = ours.and_then(|code| Some(code.compile_us? / as_f64(code.bpf_insns?)));
            let mut row = vec![
                measured.program.clone(),
                number(ours.and_then(|code| code.bpf_insns)),
                per_insn.map_or("-".to_owned(), |us| format!("{us:.1}")),
                number(measured.native_code.bytes),
            ];
            row.extend(self.names().map(|name| number(measured.side(name).and_then(|side| side.code.bytes))));
            table.add_row(row);
        }
        table
    }

    /// Why some contenders did not run some programs.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = String> + '_ {
        self.programs.iter().flat_map(|measured| {
            measured.sides.iter().filter_map(|side| {
                let reason = side.skipped.as_ref()?;
                Some(format!("{} without {}: {reason}", measured.program, side.name))
            })
        })
    }
}

/// A table whose first column is text and whose others are numbers.
pub(crate) fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss, reason = "counts of instructions, far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engines::Code;
    use crate::measure::Side;
    use crate::programs::Size;
    use crate::stats::Spread;

    /// A program with these ratios of `a` and `b`.
    fn measured(program: &str, a: f64, b: Option<f64>) -> Measured {
        let side = |name: &str, ratio: Option<f64>| Side {
            name: name.to_owned(),
            ratio: ratio.and_then(|ratio| Spread::of(&[ratio])),
            skipped: ratio.is_none().then(|| "it is not here".to_owned()),
            code: Code { bpf_insns: Some(100), compile_us: Some(250.0), bytes: Some(64) },
        };
        Measured {
            program: program.to_owned(),
            size: Size::default(),
            checksum: 1,
            native_ms: Spread { min: 1.0, lower: 1.0, median: 1.0, upper: 1.0, max: 1.0 },
            native_code: Code::default(),
            sides: vec![side("a", Some(a)), side("b", b)],
        }
    }

    /// Two programs, of which `b` ran one.
    pub(crate) fn report() -> Report {
        let mean = |name: &str, ratio, programs| Mean { name: name.to_owned(), ratio, programs };
        Report {
            clock: Clock::Cpu,
            rounds: 1,
            geomeans: vec![mean("a", 2.0, 2), mean("b", 3.0, 1)],
            programs: vec![measured("first", 1.0, Some(3.0)), measured("second", 4.0, None)],
        }
    }

    #[test]
    fn what_did_not_run_is_named_with_the_reason() {
        let skipped: Vec<String> = report().skipped().collect();
        assert_eq!(skipped, ["second without b: it is not here"]);
    }

    #[test]
    fn tables_have_a_line_for_each_program() {
        let ratios = report().ratios().to_string();
        let lines: Vec<Vec<&str>> = ratios.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[2],
            ["|", "first", "|", "1.0", "|", "1.00", "(1.00-1.00)", "|", "3.00", "(3.00-3.00)", "|"]
        );
        assert_eq!(lines[3], ["|", "second", "|", "1.0", "|", "4.00", "(4.00-4.00)", "|", "-", "|"]);
        assert_eq!(lines[4], ["|", "geomean", "|", "|", "2.000", "|", "3.000", "|"]);
        assert!(report().code().to_string().contains("2.5"), "250 us for 100 instructions");
    }
}
