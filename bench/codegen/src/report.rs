//! What was measured, as text.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::engines::Engine;
use crate::measure::{Clock, Measured};
use crate::stats::geomean;

/// Everything measured: the JSON file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Which time the ratios are of.
    pub(crate) clock: Clock,
    /// Rounds of each program.
    pub(crate) rounds: usize,
    /// Geometric means of the programs' median ratios.
    pub(crate) geomeans: Vec<Mean>,
    /// One for each program.
    pub(crate) programs: Vec<Measured>,
}

/// The mean of an engine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Mean {
    /// The engine.
    pub(crate) engine: Engine,
    /// Its mean ratio to native -O2.
    pub(crate) ratio: f64,
    /// Programs that it ran.
    pub(crate) programs: usize,
}

impl Report {
    /// Sums up.
    pub(crate) fn new(clock: Clock, rounds: usize, engines: &[Engine], programs: Vec<Measured>) -> Self {
        let mean = |&engine: &Engine| {
            let ratios = || programs.iter().filter_map(|measured| measured.ratio(engine));
            Some(Mean { engine, ratio: geomean(ratios())?, programs: ratios().count() })
        };
        Self { clock, rounds, geomeans: engines.iter().filter_map(mean).collect(), programs }
    }

    /// The engines that ran anything.
    pub(crate) fn engines(&self) -> impl Iterator<Item = Engine> + '_ {
        self.geomeans.iter().map(|mean| mean.engine)
    }

    /// Ratios: a line for each program, a column for each engine.
    pub(crate) fn ratios(&self) -> Table {
        let mut table = table(["program", "native ms"].map(str::to_owned), self.engines().map(Engine::name));
        for measured in &self.programs {
            let mut row = vec![measured.program.clone(), format!("{:.1}", measured.native_ms.median)];
            row.extend(self.engines().map(|engine| {
                let side = measured.sides.iter().find(|side| side.engine == engine);
                side.and_then(|side| side.ratio).map_or("-".to_owned(), |ratio| {
                    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.lower, ratio.upper)
                })
            }));
            table.add_row(row);
        }
        let mut row = vec!["geomean".to_owned(), String::new()];
        row.extend(self.geomeans.iter().map(|mean| format!("{:.3}", mean.ratio)));
        table.add_row(row);
        table
    }

    /// Compile time and size of code.
    pub(crate) fn code(&self) -> Table {
        let sizes = self.engines().map(|engine| format!("{} bytes", engine.name()));
        let mut table = table(["program", "BPF insns", "jit us/insn"].map(str::to_owned), sizes);
        for measured in &self.programs {
            let jit = measured.sides.iter().map(|side| side.code).rfind(|code| code.bpf_insns.is_some());
            let insns = jit.and_then(|code| code.bpf_insns);
            let per_insn = jit.and_then(|code| Some(code.compile_us? / as_f64(code.bpf_insns?)));
            let mut row = vec![
                measured.program.clone(),
                insns.map_or("-".to_owned(), |insns| insns.to_string()),
                per_insn.map_or("-".to_owned(), |us| format!("{us:.1}")),
            ];
            row.extend(self.engines().map(|engine| {
                let side = measured.sides.iter().find(|side| side.engine == engine);
                side.and_then(|side| side.code.bytes).map_or("-".to_owned(), |bytes| bytes.to_string())
            }));
            table.add_row(row);
        }
        table
    }

    /// Why some engines did not run some programs.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = String> + '_ {
        self.programs.iter().flat_map(|measured| {
            measured.sides.iter().filter_map(|side| {
                let reason = side.skipped.as_ref()?;
                Some(format!("{} without {}: {reason}", measured.program, side.engine.name()))
            })
        })
    }
}

/// A table whose first column is text and whose others are numbers.
fn table(first: impl IntoIterator<Item = String>, rest: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(first.into_iter().chain(rest));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[allow(clippy::cast_precision_loss, reason = "counts of instructions, far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
