//! The tree as text: every Rust file, with comments and strings taken out where a law is about code.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ringfence_tests::places::root;

const SKIPPED: &[&str] = &["target", ".git", "artifacts", "corpus", "results"];

/// One Rust file.
pub(crate) struct Source {
    /// Path below the root, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// The same lines without comments and without what stands between quotes.
    pub(crate) code: String,
    /// A file of tests.
    pub(crate) is_test: bool,
}

impl Source {
    /// The code up to the file's test module; nothing of a file of tests.
    pub(crate) fn product(&self) -> &str {
        if self.is_test {
            return "";
        }
        let end = self.code.match_indices("#[cfg(test)]").find(|(at, _)| {
            let rest = self.code[at + 12..].trim_start();
            rest.starts_with("mod ")
                && rest
                    .lines()
                    .next()
                    .is_some_and(|line| line.trim_end().ends_with('{'))
        });
        end.map_or(self.code.as_str(), |(at, _)| &self.code[..at])
    }
}

/// Every Rust file of the tree.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let files: Vec<PathBuf> = files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .collect();
        let mut sources: Vec<Source> = files.iter().map(|path| read(path)).collect();
        let tests: HashSet<String> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            source.is_test |= tests.contains(&source.path);
        }
        sources
    })
}

/// Every file of the tree that is not built or recorded, sorted.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    found.sort();
    found
}

/// Path below the root.
pub(crate) fn below_root(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // `.git` is a file where the tree is one of several of its repository.
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let path = below_root(path);
    let is_test = ["/tests/", "/benches/"]
        .iter()
        .any(|part| path.contains(part))
        || path.starts_with("tests/")
        || path.ends_with("/tests.rs");
    Source {
        code: without_words(&text),
        path,
        text,
        is_test,
    }
}

/// Paths of the modules that a file declares under `#[cfg(test)]`.
fn test_modules(source: &Source) -> Vec<String> {
    let (directory, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = file.trim_end_matches(".rs");
    let below = if ["lib", "main", "mod"].contains(&stem) {
        directory.to_owned()
    } else {
        format!("{directory}/{stem}")
    };
    let mut lines = source.code.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && let Some(name) = lines
                .next()
                .and_then(|next| next.strip_prefix("mod "))
                .and_then(|name| name.strip_suffix(';'))
        {
            found.push(format!("{below}/{name}.rs"));
        }
    }
    found
}

/// Blanks comments and the inside of strings and character literals; line numbers stay.
pub(crate) fn without_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(length) = raw_string(rest, out.chars().last()) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().filter(|&c| c == '\n'));
        out.push(' ');
        rest = &rest[length..];
    }
    out
}

fn raw_string(rest: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.chars().take_while(|&c| c == '#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let opening = rest.len() - body.len();
    Some(
        body.find(&close)
            .map_or(rest.len(), |at| opening + at + close.len()),
    )
}

fn is_character(rest: &str) -> bool {
    let mut inside = rest[1..].chars();
    match inside.next() {
        Some('\\') => true,
        Some(_) => inside.next() == Some('\''),
        None => false,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn comments_strings_and_characters_are_not_code() {
    let text = "let a = \"x // y\"; // unsafe\nlet b = '\"'; let c: &'a str = r#\"unsafe \"# ; /* unsafe */ fn d() {}\n";
    let code = without_words(text);
    assert!(!code.contains("unsafe"), "{code}");
    assert!(
        code.contains("fn d() {}") && code.contains("&'a str"),
        "{code}"
    );
    assert_eq!(code.lines().count(), text.lines().count());
}
