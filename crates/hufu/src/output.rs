//! What goes to standard output: results for people or, with `--json`, for programs. Logs and progress go to
//! standard error.

use std::io::{self, Write as _};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table};
use serde::Serialize;

use crate::exit::{Failure, Outcome};

/// The widest output, in columns.
pub(crate) const WIDTH: u16 = 100;

/// Writes one line. A reader that has gone away is nobody's fault.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes `value` as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    line(serde_json::to_string(value).map_err(|err| Failure::internal(err.to_string()))?);
    Ok(())
}

/// An empty table under `header`; the columns in `right` are numbers.
pub(crate) fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Whole yuan and fen: `12.88`.
pub(crate) fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

/// Milliseconds as people read them: `842 ms`, `1.3 s`.
pub(crate) fn duration_ms(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::{duration_ms, yuan};

    #[test]
    fn amounts_and_times_are_readable() {
        assert_eq!([0, 5, 100, 128_899].map(yuan), ["0.00", "0.05", "1.00", "1288.99"]);
        assert_eq!([0, 9_999, 10_000, 61_250].map(duration_ms), ["0 ms", "9999 ms", "10.0 s", "61.2 s"]);
    }
}
