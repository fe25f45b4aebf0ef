//! Tables of figures, for people.

use comfy_table::{CellAlignment, Row, Table, presets};

/// A table with these columns, of which the first `words` hold words, and the others figures.
pub(crate) fn table(columns: impl Into<Row>, words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(columns);
    table.column_iter_mut().skip(words).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
