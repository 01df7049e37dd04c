//! One `SELECT` over the tables of history, and nothing else: what is not plainly that is refused.
//!
//! The server is told to only read, too. But reading is more than these tables to it: it has functions that open files
//! and URLs, and tables about itself.

use crate::HistoryError;

/// Tables that may be asked.
const TABLES: [&str; 3] = ["flows", "conversations", "memberships"];
/// Words that begin what is no part of a question.
const REFUSED: [&str; 9] = [
    "insert",
    "alter",
    "drop",
    "create",
    "outfile",
    "settings",
    "format",
    "global",
    "dictionary",
];

fn refused(why: &str) -> HistoryError {
    HistoryError::Sql {
        why: why.to_owned(),
    }
}

/// Words, and single characters that are no part of one, and where each begins. Texts in quotes are left out.
fn tokens(text: &str) -> Result<(Vec<String>, Vec<usize>), HistoryError> {
    let (mut tokens, mut starts) = (Vec::new(), Vec::new());
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        starts.push(start);
        if c == '\'' {
            loop {
                match chars.next().map(|(_, c)| c) {
                    Some('\\') => drop(chars.next()),
                    Some('\'') => break,
                    Some(_) => {}
                    None => return Err(refused("a text in quotes does not end")),
                }
            }
            tokens.push("''".to_owned());
        } else if (c, next) == ('-', Some('-')) || (c, next) == ('/', Some('*')) || c == '#' {
            return Err(refused("comments are not taken"));
        } else if matches!(c, '"' | '`' | ';' | '\\') {
            return Err(refused(&format!("`{c}` is not taken")));
        } else if c.is_alphanumeric() || c == '_' {
            let mut word = c.to_lowercase().to_string();
            while let Some((_, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                word.extend(c.to_lowercase());
            }
            tokens.push(word);
        } else if c.is_whitespace() {
            starts.pop();
        } else {
            tokens.push(c.to_string());
        }
    }
    Ok((tokens, starts))
}

/// Where the parenthesis that opens at `open` closes.
fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

/// The text with its tables named in full, if it is one `SELECT` over the tables of history.
///
/// # Errors
/// [`HistoryError::Sql`].
pub(super) fn checked(text: &str, db: &str) -> Result<String, HistoryError> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (tokens, starts) = tokens(text)?;
    let mut whole = String::new();
    let mut told = 0;
    if tokens.first().is_none_or(|t| t != "select") {
        return Err(refused("it does not begin with SELECT"));
    }
    let at = |index: usize| tokens.get(index).map_or("", String::as_str);
    for (index, token) in tokens.iter().enumerate() {
        let next = at(index + 1);
        match token.as_str() {
            "from" | "join" if next == "(" => {
                let behind = closing(&tokens, index + 1) + 1;
                let after = behind + usize::from(at(behind) == "as");
                if [at(behind), at(after), at(after + 1)].contains(&",") {
                    return Err(refused("tables are named alone, or with JOIN between"));
                }
            }
            "from" | "join" => {
                if !TABLES.contains(&next) {
                    return Err(refused(&format!("`{next}` is no table of history")));
                }
                let after = index + 2 + usize::from(at(index + 2) == "as");
                let behind = [at(index + 2), at(after), at(after + 1)];
                if at(index + 2) == "(" || at(index + 2) == "." || behind.contains(&",") {
                    return Err(refused("tables are named alone, or with JOIN between"));
                }
                // A server that asks another does not say whose table it means.
                let start = starts.get(index + 1).copied().unwrap_or(told);
                whole.push_str(text.get(told..start).unwrap_or_default());
                whole.push_str(db);
                whole.push('.');
                told = start;
            }
            "in" if next != "(" => {
                return Err(refused("IN takes a list or a SELECT in parentheses"));
            }
            word if REFUSED.contains(&word) => {
                return Err(refused(&format!("`{word}` is not taken")));
            }
            word if next == "("
                && (word.starts_with("dict") || word == "file" || word.starts_with("joinget")) =>
            {
                return Err(refused(&format!("the function `{word}` is not taken")));
            }
            _ => {}
        }
    }
    whole.push_str(text.get(told..).unwrap_or_default());
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_over_the_tables_of_history_are_taken() {
        for text in [
            "SELECT count() FROM flows",
            "select src, sum(bytes_fwd) as b from conversations where dst_name in ('db-1', 'a;b') group by src order by b \
             desc limit 5;",
            "SELECT * FROM (SELECT src FROM flows f WHERE rule = 'it\\'s -- one') ANY LEFT JOIN memberships USING src",
            "SELECT 1",
        ] {
            checked(text, "db").unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let named = checked(
            "SELECT 'é from x' FROM Flows f JOIN (SELECT 1 FROM memberships)",
            "db",
        );
        assert_eq!(
            named.ok().as_deref(),
            Some("SELECT 'é from x' FROM db.Flows f JOIN (SELECT 1 FROM db.memberships)")
        );
    }

    #[test]
    fn whatever_else_is_refused() {
        for text in [
            "",
            "INSERT INTO flows SELECT * FROM flows",
            "DROP TABLE flows",
            "SELECT 1; DROP TABLE flows",
            "SELECT * FROM system.parts",
            "SELECT * FROM flows, system.parts",
            "SELECT * FROM flows AS f, system.parts",
            "SELECT * FROM flows f, system.parts",
            "SELECT * FROM (SELECT 1 FROM flows), system.parts",
            "SELECT * FROM (SELECT count(1) FROM flows) AS f, system.parts",
            "SELECT * FROM url('http://10.0.0.1/', CSV, 'a String')",
            "SELECT * FROM `system`.parts",
            "SELECT 1 WHERE 1 IN system.one",
            "SELECT * FROM flows INTO OUTFILE 'x'",
            "SELECT * FROM flows FORMAT CSV",
            "SELECT * FROM flows SETTINGS readonly = 0",
            "SELECT 1 /* FROM */",
            "SELECT dictGetString('a', 'b', 1)",
            "SELECT 'open",
        ] {
            assert!(
                matches!(checked(text, "db"), Err(HistoryError::Sql { .. })),
                "{text}"
            );
        }
    }
}
