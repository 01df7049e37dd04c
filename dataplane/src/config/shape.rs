//! Where in which source a key is wrong: figment knows the key and the source, `toml` the line.

use super::ConfigError;
use figment::error::Kind;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What environment variables of the dataplane begin with.
pub(super) const ENVIRONMENT_PREFIX: &str = "RINGFENCE_DATAPLANE_";

/// Where a wrong value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 where it is not known.
        line: usize,
    },
    /// In the environment.
    Environment {
        /// The variable.
        variable: String,
    },
    /// In a flag.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine => write!(f, "command line"),
        }
    }
}

/// The configuration file, kept to find lines in.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl File<'_> {
    /// Refuses what is no TOML.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Err(error) = DeTable::parse(self.text) else {
            return Ok(());
        };
        let line = error.span().map_or(0, |span| self.line(span.start));
        Err(ConfigError::Shape {
            place: self.at(line),
            what: format!("no TOML: {}", error.message().replace('\n', ", ")),
        })
    }

    fn at(&self, line: usize) -> Place {
        Place::File {
            path: self.path.to_owned(),
            line,
        }
    }

    /// The line, counted from 1, of a byte.
    fn line(&self, byte: usize) -> usize {
        let before = self.text.bytes().take(byte);
        1 + before.filter(|byte| *byte == b'\n').count()
    }

    /// The line of a key; `None` where the file does not have it.
    fn line_of(&self, path: &[String]) -> Option<usize> {
        let root = DeTable::parse(self.text).ok()?;
        let (first, rest) = path.split_first()?;
        let (mut found, mut value) = entry(root.get_ref(), first)?;
        for step in rest {
            (found, value) = match value.get_ref() {
                DeValue::Table(table) => entry(table, step)?,
                DeValue::Array(array) => {
                    let element = array.get(step.parse::<usize>().ok()?)?;
                    (element.span().start, element)
                }
                _ => return None,
            };
        }
        Some(self.line(found))
    }
}

/// Where a key of a table begins, and its value.
fn entry<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<(usize, &'t Spanned<DeValue<'i>>)> {
    let (key, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((key.span().start, value))
}

/// Says what figment says, with the place.
pub(super) fn refused(error: &figment::Error, file: Option<&File<'_>>) -> ConfigError {
    let path = &error.path;
    let key = path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(_, known) => {
            format!("unknown key `{key}`; known here: {}", known.join(", "))
        }
        kind => format!("`{key}`: {kind}"),
    };
    let source = error.metadata.as_ref().map_or("", |source| &*source.name);
    let place = match file {
        _ if source.contains("environment") => Place::Environment {
            variable: format!("{ENVIRONMENT_PREFIX}{}", path.join("__").to_uppercase()),
        },
        Some(file) if source.starts_with("TOML") => file.at(file.line_of(path).unwrap_or(0)),
        _ => Place::CommandLine,
    };
    ConfigError::Shape { place, what }
}
