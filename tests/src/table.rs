//! Flow tables as TSV: the truth of captures and what `ringfence replay` prints.

use std::collections::BTreeMap;

/// The columns that both sides have, in this order.
pub const COLUMNS: [&str; 9] = [
    "src",
    "dst",
    "proto",
    "sport",
    "dport",
    "pkts_fwd",
    "bytes_fwd",
    "pkts_rev",
    "bytes_rev",
];

/// A multiset of rows, each its first nine columns.
pub type Rows = BTreeMap<String, usize>;

/// Why a table cannot be read.
#[derive(Debug)]
pub struct TableError(String);

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the first nine columns of a TSV with a header line.
///
/// # Errors
/// If the header does not begin with [`COLUMNS`] or a row is too short.
pub fn rows(text: &str) -> Result<Rows, TableError> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if !header.split('\t').take(9).eq(COLUMNS) {
        return Err(TableError(format!("the header is {header:?}")));
    }
    let mut rows = Rows::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split('\t').take(9).collect();
        if cells.len() < 9 {
            return Err(TableError(format!(
                "a row has {} columns: {line:?}",
                cells.len()
            )));
        }
        *rows.entry(cells.join("\t")).or_insert(0) += 1;
    }
    Ok(rows)
}

/// Rows by name of column, of a TSV with any header.
#[must_use]
pub fn named(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            header
                .iter()
                .zip(line.split('\t'))
                .map(|(name, cell)| ((*name).to_owned(), cell.to_owned()))
                .collect()
        })
        .collect()
}

/// How many rows.
#[must_use]
pub fn count(rows: &Rows) -> usize {
    rows.values().sum()
}

/// What is in `left` and not in `right`.
#[must_use]
pub fn missing(left: &Rows, right: &Rows) -> Rows {
    left.iter()
        .filter_map(|(row, count)| {
            let rest = count.saturating_sub(right.get(row).copied().unwrap_or(0));
            (rest > 0).then(|| (row.clone(), rest))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "src\tdst\tproto\tsport\tdport\tpkts_fwd\tbytes_fwd\tpkts_rev\tbytes_rev";

    #[test]
    fn rows_are_equal_whatever_their_order_and_further_columns() {
        let left = rows(&format!(
            "{HEADER}\tmore\n1\t2\t3\t4\t5\t6\t7\t8\t9\tx\na\tb\tc\td\te\tf\tg\th\ti\ty\n"
        ))
        .unwrap();
        let right = rows(&format!(
            "{HEADER}\na\tb\tc\td\te\tf\tg\th\ti\n1\t2\t3\t4\t5\t6\t7\t8\t9\n"
        ))
        .unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn a_row_that_stands_twice_is_missing_once() {
        let left = rows(&format!(
            "{HEADER}\n1\t2\t3\t4\t5\t6\t7\t8\t9\n1\t2\t3\t4\t5\t6\t7\t8\t9\n"
        ))
        .unwrap();
        let right = rows(&format!("{HEADER}\n1\t2\t3\t4\t5\t6\t7\t8\t9\n")).unwrap();
        assert_eq!(count(&missing(&left, &right)), 1);
        assert_eq!(count(&missing(&right, &left)), 0);
    }

    #[test]
    fn another_header_is_refused() {
        assert!(rows("src\tdst\n").is_err());
        assert!(rows("").is_err());
    }
}
