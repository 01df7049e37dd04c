//! What a command prints for people: lines and tables, plain or coloured.
//!
//! Printers build a [`Page`] from API values and touch neither terminal nor clock, so that tests
//! compare the very text an operator sees. Colour belongs to whole lines and never carries meaning
//! of its own: the words say the same.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Names of columns, titles.
    Heading,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Denied, failed, lost.
    Bad,
    /// Of little importance.
    Faint,
}

impl Tone {
    /// Select Graphic Rendition code, ECMA-48 section 8.3.117.
    const fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }
}

/// Lines in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    lines: Vec<(Tone, String)>,
}

impl Page {
    /// No lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line. Control characters are shown as `?`: names and messages come from files and
    /// from the network, and must not steer the terminal.
    pub fn line(&mut self, tone: Tone, text: impl AsRef<str>) -> &mut Self {
        let text = text.as_ref().trim_end();
        self.lines
            .push((tone, text.replace(|c: char| c.is_control(), "?")));
        self
    }

    /// Adds every line of a text.
    pub fn text(&mut self, tone: Tone, text: &str) -> &mut Self {
        for line in text.lines() {
            self.line(tone, line.replace('\t', "    "));
        }
        self
    }

    /// Adds `name  value`, with the names of a block in one column.
    pub fn field(&mut self, tone: Tone, name: &str, value: impl AsRef<str>) -> &mut Self {
        self.line(tone, format!("{name:<11}  {}", value.as_ref()))
    }

    /// Adds an empty line.
    pub fn gap(&mut self) -> &mut Self {
        self.line(Tone::Plain, "")
    }

    /// Adds every line of another page.
    pub fn append(&mut self, other: Self) -> &mut Self {
        self.lines.extend(other.lines);
        self
    }

    /// Adds a table.
    pub fn table(&mut self, grid: Grid) -> &mut Self {
        for (tone, line) in grid.into_lines() {
            self.line(tone, line);
        }
        self
    }

    /// The text, with a line end behind every line.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for (tone, line) in &self.lines {
            match tone.sgr().filter(|_| colour && !line.is_empty()) {
                Some(sgr) => {
                    text.push_str("\x1b[");
                    text.push_str(sgr);
                    text.push('m');
                    text.push_str(line);
                    text.push_str("\x1b[0m");
                }
                None => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table: one line a row, whatever the width of the terminal, so that `grep` and `cut` work.
#[derive(Clone, Debug)]
pub struct Grid {
    columns: Vec<(String, Align)>,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Grid {
    /// A table with these columns.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        let named = |(name, align): &(&str, Align)| ((*name).to_owned(), *align);
        Self::named(columns.iter().map(named).collect())
    }

    /// A table whose columns are not known beforehand.
    #[must_use]
    pub const fn named(columns: Vec<(String, Align)>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Empty cells are shown as `-`.
    pub fn row(&mut self, tone: Tone, cells: Vec<String>) -> &mut Self {
        debug_assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has one cell a column"
        );
        let cells = cells
            .into_iter()
            .map(|cell| match cell.trim() {
                "" => "-".to_owned(),
                shown => shown.replace(|c: char| c.is_control(), "?"),
            })
            .collect();
        self.rows.push((tone, cells));
        self
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn into_lines(self) -> Vec<(Tone, String)> {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|(name, _)| name));
        let mut tones = vec![Tone::Heading];
        for (tone, cells) in self.rows {
            tones.push(tone);
            table.add_row(cells);
        }
        for (column, (_, align)) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        tones
            .into_iter()
            .zip(table.lines().collect::<Vec<_>>())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut grid = Grid::new(&[("name", Align::Left), ("packets", Align::Right)]);
        grid.row(Tone::Plain, vec!["web-1".into(), "7".into()]);
        grid.row(Tone::Bad, vec![String::new(), "1234".into()]);
        let mut page = Page::new();
        page.table(grid);
        page
    }

    #[test]
    fn a_table_is_one_line_a_row_without_trailing_blanks() {
        assert_eq!(
            page().render(false),
            "name   packets\nweb-1        7\n-         1234\n"
        );
    }

    #[test]
    fn colour_covers_whole_lines_and_changes_no_word() {
        let coloured = page().render(true);
        assert!(
            coloured.contains("\x1b[31m-         1234\x1b[0m\n"),
            "{coloured:?}"
        );
        let plain = ["\x1b[1m", "\x1b[31m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, page().render(false));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut page = Page::new();
        page.line(Tone::Plain, "web\x1b[2J-1\u{9b}31m");
        assert_eq!(page.render(false), "web?[2J-1?31m\n");
    }
}
