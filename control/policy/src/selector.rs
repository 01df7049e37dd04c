//! Label selectors: which workloads a segment holds.
//!
//! ```text
//! selector = term *( "," term )                 all terms must hold
//! term     = key "=" value                      has the label with this value
//!          | key "!=" value                     has not (or has no such label)
//!          | key "in" "(" value *("," value) ")"
//!          | key "notin" "(" value *("," value) ")"   has none of them (or no such label)
//!          | key "exists"                       has the label
//!          | "!" key "exists"                   has it not
//! key, value = 1*( letter | digit | "-" | "_" | "." | "/" | ":" )
//! ```

use crate::limits::SELECTOR_TERMS_MAX;
use core::fmt;
use std::collections::BTreeMap;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub(crate) terms: Vec<Term>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) key: String,
    pub(crate) test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// `=` and `in`.
    AnyOf(Vec<String>),
    /// `!=` and `notin`.
    NoneOf(Vec<String>),
    Exists,
    Absent,
}

/// Why a selector was refused. `at` is the byte within the selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing selected by: it would hold every workload.
    #[error("the selector is empty")]
    Empty,
    /// Something else was expected here.
    #[error("expected {expected} at {at:?}", at = found)]
    Expected {
        /// What may stand here.
        expected: &'static str,
        /// What stands here, up to the end.
        found: String,
        /// Byte within the selector.
        at: usize,
    },
    /// More terms or values than any selector may have.
    #[error("the selector has more than {SELECTOR_TERMS_MAX} terms, or a term as many values")]
    TooLong,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// [`SelectorError`] says what was expected where.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut scanner = Scanner { text, at: 0 };
        if scanner.rest().is_empty() {
            return Err(SelectorError::Empty);
        }
        let mut terms = vec![scanner.term()?];
        while scanner.eat(",") {
            terms.push(scanner.term()?);
        }
        if !scanner.rest().is_empty() {
            return Err(scanner.expected("a comma or the end"));
        }
        if terms.len() > SELECTOR_TERMS_MAX {
            return Err(SelectorError::TooLong);
        }
        Ok(Self { terms })
    }

    /// Whether a workload with these labels is selected.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| {
            let value = labels.get(&term.key);
            match &term.test {
                Test::AnyOf(values) => value.is_some_and(|value| values.contains(value)),
                Test::NoneOf(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Term { key, test }) in self.terms.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match test {
                Test::AnyOf(values) if values.len() == 1 => write!(f, "{comma}{key}={}", values[0]),
                Test::NoneOf(values) if values.len() == 1 => {
                    write!(f, "{comma}{key}!={}", values[0])
                }
                Test::AnyOf(values) => write!(f, "{comma}{key} in ({})", values.join(", ")),
                Test::NoneOf(values) => write!(f, "{comma}{key} notin ({})", values.join(", ")),
                Test::Exists => write!(f, "{comma}{key} exists"),
                Test::Absent => write!(f, "{comma}!{key} exists"),
            }?;
        }
        Ok(())
    }
}

/// Characters of keys and values, and of every name in a policy.
pub(crate) fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:".contains(c)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// What is left, after spaces.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expected(&mut self, expected: &'static str) -> SelectorError {
        let found = self.rest().to_owned();
        SelectorError::Expected {
            expected,
            found,
            at: self.at,
        }
    }

    fn word(&mut self, expected: &'static str) -> Result<&'a str, SelectorError> {
        let rest = self.rest();
        let end = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.expected(expected));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn term(&mut self) -> Result<Term, SelectorError> {
        if self.eat("!") {
            let key = self.word("a label")?.to_owned();
            return match self.word("`exists`") {
                Ok("exists") => Ok(Term {
                    key,
                    test: Test::Absent,
                }),
                Ok(other) => {
                    self.at -= other.len();
                    Err(self.expected("`exists`"))
                }
                Err(error) => Err(error),
            };
        }
        let key = self.word("a label")?.to_owned();
        let test = if self.eat("!=") {
            Test::NoneOf(vec![self.word("a value")?.to_owned()])
        } else if self.eat("=") {
            Test::AnyOf(vec![self.word("a value")?.to_owned()])
        } else {
            const OPERATORS: &str = "`=`, `!=`, `in`, `notin` or `exists`";
            match self.word(OPERATORS)? {
                "in" => Test::AnyOf(self.values()?),
                "notin" => Test::NoneOf(self.values()?),
                "exists" => Test::Exists,
                other => {
                    self.at -= other.len();
                    return Err(self.expected(OPERATORS));
                }
            }
        };
        Ok(Term { key, test })
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.eat("(") {
            return Err(self.expected("`(`"));
        }
        let mut values = vec![self.word("a value")?.to_owned()];
        while self.eat(",") {
            values.push(self.word("a value")?.to_owned());
        }
        if !self.eat(")") {
            return Err(self.expected("a comma or `)`"));
        }
        if values.len() > SELECTOR_TERMS_MAX {
            return Err(SelectorError::TooLong);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(' ')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn selects(selector: &str, on: &str) -> bool {
        Selector::parse(selector)
            .expect(selector)
            .selects(&labels(on))
    }

    #[test]
    fn each_operator_selects_as_its_name_says() {
        let web = "app=shop role=web env=prod";
        assert!(selects("app=shop, role in (web, api), env!=dev", web));
        assert!(selects("role notin (db, cache), !tier exists", web));
        assert!(selects("env exists", web));
        assert!(!selects("app=shop, role=db", web));
        assert!(!selects("role notin (web)", web));
        assert!(!selects("!env exists", web));
        assert!(!selects("tier exists", web));
    }

    #[test]
    fn a_missing_label_is_not_equal_to_anything() {
        assert!(selects("env!=dev", "app=shop"));
        assert!(selects("env notin (dev, test)", "app=shop"));
        assert!(!selects("env=dev", "app=shop"));
    }

    #[test]
    fn a_label_may_be_called_like_an_operator() {
        assert!(selects(
            "in=exists, notin in (in, notin)",
            "in=exists notin=in"
        ));
    }

    #[test]
    fn selectors_print_as_they_read() {
        let text =
            "app=shop, role in (web, api), env!=dev, zone notin (a, b), tier exists, !x exists";
        let selector = Selector::parse(text).expect("a selector");
        assert_eq!(selector.to_string(), text);
    }

    #[test]
    fn errors_say_what_was_expected_and_where() {
        let error = |text| Selector::parse(text).expect_err(text).to_string();
        assert_eq!(error("  "), "the selector is empty");
        assert_eq!(
            error("app"),
            "expected `=`, `!=`, `in`, `notin` or `exists` at \"\""
        );
        assert_eq!(
            error("app=shop role=web"),
            "expected a comma or the end at \"role=web\""
        );
        assert_eq!(error("role in web"), "expected `(` at \"web\"");
        assert_eq!(error("role in (web"), "expected a comma or `)` at \"\"");
        assert_eq!(error("!tier"), "expected `exists` at \"\"");
        assert_eq!(error("=x"), "expected a label at \"=x\"");
    }

    #[test]
    fn no_prefix_of_a_selector_panics() {
        let text = "app=shop, role in (web, äpi), !tier exists";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = Selector::parse(&text[..end]);
        }
    }
}
