//! Workloads as CSV (RFC 4180): the first line names the columns, a line a workload.
//!
//! `csv-core` reads cells and says how many bytes each took, so that every word keeps the byte at
//! which it stands.

use crate::file::{At, Lines, PolicyFile, Words, WorkloadText};
use crate::near::nearest;
use crate::problem::{Kind, Problem};
use crate::read;
use csv_core::{ReadFieldResult, Reader};

/// Columns that have a meaning of their own.
const COLUMNS: [&str; 5] = ["name", "addresses", "dns", "labels", "comment"];
/// Beginning of the name of a column of one label.
const LABEL: &str = "label:";
/// What spreadsheets write before the first cell.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A cell and the byte at which its text begins.
type Cell = At<String>;

/// Reads a file; what is wrong is kept beside what could be read.
pub(super) fn parse(text: &str, file: &str) -> PolicyFile {
    // The rest of a policy file is empty, and its lines are those of this text.
    let mut parsed = read::parse("", file);
    parsed.problems.clear();
    parsed.lines = Lines::of(text);
    if text.len() > crate::limits::TEXT_BYTES_MAX {
        let (bytes, limit) = (text.len(), crate::limits::TEXT_BYTES_MAX);
        parsed
            .problems
            .push((0, Problem::TextTooLong { bytes, limit }));
        return parsed;
    }
    let mut lines = records(text).into_iter();
    let Some(header) = lines.next() else {
        return parsed;
    };
    let columns = columns(&header, &mut parsed);
    for cells in lines {
        workload(&columns, cells, &mut parsed);
    }
    parsed
}

/// What a column holds.
enum Column {
    Name,
    Addresses,
    Dns,
    Labels,
    Label(At<String>),
    Comment,
    Unknown,
}

fn columns(header: &[Cell], parsed: &mut PolicyFile) -> Vec<Column> {
    let mut columns = Vec::with_capacity(header.len());
    let mut seen: Vec<&str> = Vec::new();
    for Cell { value, at } in header {
        if seen.contains(&value.as_str()) {
            let column = value.clone();
            parsed.problems.push((*at, Problem::ColumnTwice { column }));
        }
        seen.push(value);
        columns.push(match (value.as_str(), value.strip_prefix(LABEL)) {
            ("name", _) => Column::Name,
            ("addresses", _) => Column::Addresses,
            ("dns", _) => Column::Dns,
            ("labels", _) => Column::Labels,
            ("comment", _) => Column::Comment,
            (_, Some(key)) => Column::Label(At {
                value: key.to_owned(),
                at: at + LABEL.len(),
            }),
            (word, None) => {
                let near = nearest(word, COLUMNS);
                let column = word.escape_debug().to_string();
                parsed
                    .problems
                    .push((*at, Problem::UnknownColumn { column, near }));
                Column::Unknown
            }
        });
    }
    let column = "name";
    if !seen.contains(&column) {
        parsed.problems.push((0, Problem::MissingColumn { column }));
    }
    columns
}

fn workload(columns: &[Column], cells: Vec<Cell>, parsed: &mut PolicyFile) {
    let at = cells.first().map_or(0, |cell| cell.at);
    if cells.len() != columns.len() {
        let (found, expected) = (cells.len(), columns.len());
        parsed
            .problems
            .push((at, Problem::Cells { found, expected }));
        return;
    }
    let mut workload = WorkloadText {
        at,
        name: None,
        addresses: None,
        dns: None,
        labels: Vec::new(),
    };
    let name_cell = columns
        .iter()
        .position(|column| matches!(column, Column::Name));
    let name = name_cell.map_or_else(String::new, |index| cells[index].value.clone());
    for (column, cell) in columns.iter().zip(cells) {
        if cell.value.contains(['\n', '\r']) && !matches!(column, Column::Comment) {
            let column = title(column);
            parsed
                .problems
                .push((cell.at, Problem::CellLines { column }));
            continue;
        }
        match column {
            Column::Name => workload.name = Some(cell),
            Column::Addresses => workload.addresses = words(&cell),
            Column::Dns => workload.dns = words(&cell),
            Column::Labels => labels(&cell, &name, &mut workload, parsed),
            Column::Label(_) if cell.value.is_empty() => {}
            Column::Label(key) => {
                let value = cell;
                workload.labels.push((key.clone(), value));
            }
            Column::Comment | Column::Unknown => {}
        }
    }
    if name.is_empty() && name_cell.is_some() {
        let (kind, key, mend) = (Kind::Workload, "name", "write its name in the column name");
        parsed
            .problems
            .push((at, Problem::MissingKey { kind, key, mend }));
        workload.name = None;
    } else if workload.addresses.is_none() && workload.dns.is_none() {
        let workload = name;
        parsed.problems.push((at, Problem::NoAddress { workload }));
    }
    parsed.workloads.push(workload);
}

fn title(column: &Column) -> String {
    match column {
        Column::Name => "name".to_owned(),
        Column::Addresses => "addresses".to_owned(),
        Column::Dns => "dns".to_owned(),
        Column::Labels => "labels".to_owned(),
        Column::Label(key) => format!("{LABEL}{}", key.value),
        Column::Comment => "comment".to_owned(),
        Column::Unknown => "?".to_owned(),
    }
}

/// The words of a cell, between spaces or semicolons; none where there is none.
fn words(cell: &Cell) -> Option<Words> {
    let value: Vec<At<String>> = pieces(cell, |c| c == ';' || c.is_whitespace()).collect();
    let at = cell.at;
    (!value.is_empty()).then_some(At { value, at })
}

/// Pieces of a cell between separators, each with where it stands.
fn pieces(cell: &Cell, is_separator: impl Fn(char) -> bool) -> impl Iterator<Item = At<String>> {
    let pieces = cell.value.split(is_separator);
    pieces
        .filter(|piece| !piece.trim().is_empty())
        .map(|piece| {
            let piece = piece.trim();
            // Quotes are doubled within quotes only, and no name has one: places are those of the file.
            let offset = piece.as_ptr() as usize - cell.value.as_ptr() as usize;
            At {
                value: piece.to_owned(),
                at: cell.at + offset,
            }
        })
}

fn labels(cell: &Cell, name: &str, workload: &mut WorkloadText, parsed: &mut PolicyFile) {
    for piece in pieces(cell, |c| c == ';') {
        match piece.value.split_once('=') {
            Some((key, value)) => workload.labels.push((
                At {
                    value: key.trim_end().to_owned(),
                    at: piece.at,
                },
                At {
                    value: value.trim_start().to_owned(),
                    at: piece.at + key.len() + 1,
                },
            )),
            None => {
                let (workload, found) = (name.to_owned(), piece.value.escape_debug().to_string());
                parsed
                    .problems
                    .push((piece.at, Problem::LabelCell { workload, found }));
            }
        }
    }
}

/// The cells of every line that has one, without spaces around them. A line whose first cell begins
/// with `#` is left out.
fn records(text: &str) -> Vec<Vec<Cell>> {
    let skipped = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len_utf8()
    } else {
        0
    };
    let bytes = text.as_bytes();
    let (mut reader, mut at) = (Reader::new(), skipped);
    let (mut records, mut cells) = (Vec::new(), Vec::new());
    let mut bytes_out = vec![0; 256];
    loop {
        // The reader passes over line ends when it is asked for the cell behind them.
        while cells.is_empty() && matches!(bytes.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        let start = at;
        let mut filled = 0;
        let result = loop {
            let out = &mut bytes_out[filled..];
            let (result, taken, written) = reader.read_field(&bytes[at..], out);
            (at, filled) = (at + taken, filled + written);
            match result {
                ReadFieldResult::OutputFull => bytes_out.resize(bytes_out.len() * 2, 0),
                // Asked again with nothing left to read, it tells the end.
                ReadFieldResult::InputEmpty => {}
                result => break result,
            }
        };
        let ReadFieldResult::Field { record_end } = result else {
            return records;
        };
        let quoted = usize::from(bytes.get(start) == Some(&b'"'));
        let whole = String::from_utf8_lossy(&bytes_out[..filled]);
        let value = whole.trim().to_owned();
        let spaces = whole.len() - whole.trim_start().len();
        let at_text = start + quoted + spaces;
        cells.push(Cell { value, at: at_text });
        if record_end {
            let cells = std::mem::take(&mut cells);
            let is_comment = cells
                .first()
                .is_some_and(|cell| cell.value.starts_with('#'));
            let is_blank = cells.iter().all(|cell| cell.value.is_empty());
            if !is_comment && !is_blank {
                records.push(cells);
            }
        }
    }
}
