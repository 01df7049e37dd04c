//! Standard output: colour only on a terminal, quiet where the reader went away.

use std::io::{self, IsTerminal, Write};

use crate::error::CliError;
use crate::page::{Page, Tone};

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    colour: bool,
    error_colour: bool,
}

/// Whether the reader is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Print on.
    Present,
    /// It closed the pipe; nobody will read what comes next.
    Gone,
}

impl Output {
    /// Colour where standard output is a terminal and `NO_COLOR` is not set (no-color.org).
    #[must_use]
    pub fn detect() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            colour: wanted && io::stdout().is_terminal(),
            error_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// Prints a page.
    ///
    /// # Errors
    /// Standard output cannot be written, other than that its reader has gone.
    pub fn page(self, page: &Page) -> Result<Reader, CliError> {
        self.bytes(page.render(self.colour).as_bytes())
    }

    /// Prints one JSON document, which ends with a line end.
    ///
    /// # Errors
    /// As [`Output::page`].
    pub fn json(self, json: &[u8]) -> Result<Reader, CliError> {
        match self.bytes(json.trim_ascii_end())? {
            Reader::Present => self.bytes(b"\n"),
            Reader::Gone => Ok(Reader::Gone),
        }
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`Output::page`].
    pub fn bytes(self, bytes: &[u8]) -> Result<Reader, CliError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(Reader::Present),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(CliError::Output(error)),
        }
    }

    /// Prints a page to standard error. Nothing can be done where that fails.
    pub fn error_page(self, page: &Page) {
        let _ = io::stderr()
            .lock()
            .write_all(page.render(self.error_colour).as_bytes());
    }

    /// Prints `error: MESSAGE` to standard error.
    pub fn error(self, message: &str) {
        let mut page = Page::new();
        page.text(Tone::Bad, &format!("error: {message}"));
        self.error_page(&page);
    }

    /// Prints `warning: MESSAGE` to standard error.
    pub fn warning(self, message: &str) {
        let mut page = Page::new();
        page.text(Tone::Warning, &format!("warning: {message}"));
        self.error_page(&page);
    }

    /// Whether progress may be drawn on standard error.
    #[must_use]
    pub fn draws_progress(self) -> bool {
        io::stderr().is_terminal()
    }
}
