//! Text to filter: one pass over tokens, recursive descent of bounded depth.

use super::{
    Compare, EndTest, Expr, FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FilterError, Net, Quantity, Side,
    WholeTest, bits_of,
};
use crate::label::asked_service;
use std::net::IpAddr;

const TESTS: &str = "host, net, port, segment, workload, proto, service, rule, pending-rule, \
     verdict, pending, source, mode, coverage, end, kind, state, drop, tunnel, vlan, vni, bytes, \
     packets, dropped, epoch, worker, an address, `not` or `(`";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    /// Column of its first character, 1-based.
    column: usize,
    text: String,
    /// In double quotes: a name, never a word of the language.
    quoted: bool,
}

pub(super) fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError {
            column: 1,
            what: format!("the filter has {} bytes", text.len()),
            expected: format!("at most {FILTER_BYTES_MAX}"),
        });
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
        end: text.chars().count() + 1,
    };
    let expr = parser.or()?;
    match parser.tokens.get(parser.next) {
        None => Ok(Some(expr)),
        Some(token) => Err(refused(token, "`and`, `or` or the end of the filter")),
    }
}

fn refused(token: &Token, expected: impl Into<String>) -> FilterError {
    FilterError {
        column: token.column,
        what: format!("`{}`", token.text),
        expected: expected.into(),
    }
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '*' | '%')
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let column = at + 1;
        let rest = chars.get(at..).unwrap_or_default();
        let (length, text, quoted) = if c.is_whitespace() {
            at += 1;
            continue;
        } else if c == '"' {
            let inner: String = rest.iter().skip(1).take_while(|c| **c != '"').collect();
            let length = inner.chars().count() + 2;
            if length > rest.len() {
                return Err(FilterError {
                    column,
                    what: "a text that does not end".to_owned(),
                    expected: "a closing `\"`".to_owned(),
                });
            }
            (length, inner, true)
        } else if is_word(c) {
            let word: String = rest.iter().take_while(|c| is_word(**c)).collect();
            (word.chars().count(), word, false)
        } else if matches!(c, '>' | '<' | '!' | '=') {
            let two = rest.get(1) == Some(&'=') && c != '=';
            (
                1 + usize::from(two),
                rest.iter().take(1 + usize::from(two)).collect(),
                false,
            )
        } else if matches!(c, '(' | ')') {
            (1, c.to_string(), false)
        } else {
            return Err(FilterError {
                column,
                what: format!("`{c}`"),
                expected: "a word, a number, `\"`, `(`, `)` or a comparison".to_owned(),
            });
        };
        tokens.push(Token {
            column,
            text,
            quoted,
        });
        at += length;
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// Column behind the last character.
    end: usize,
}

impl Parser {
    fn is_next(&self, word: &str) -> bool {
        self.tokens
            .get(self.next)
            .is_some_and(|t| !t.quoted && t.text == word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is_next(word);
        self.next += usize::from(found);
        found
    }

    fn token(&mut self, expected: &str) -> Result<Token, FilterError> {
        let token = self
            .tokens
            .get(self.next)
            .cloned()
            .ok_or_else(|| FilterError {
                column: self.end,
                what: "the filter ends".to_owned(),
                expected: expected.to_owned(),
            })?;
        self.next += 1;
        Ok(token)
    }

    fn or(&mut self) -> Result<Expr, FilterError> {
        let first = self.and()?;
        let mut parts = vec![first];
        while self.take("or") {
            parts.push(self.and()?);
        }
        Ok(alone_or(parts, Expr::Any))
    }

    fn and(&mut self) -> Result<Expr, FilterError> {
        let first = self.not()?;
        let mut parts = vec![first];
        while self.take("and") {
            parts.push(self.not()?);
        }
        Ok(alone_or(parts, Expr::All))
    }

    fn not(&mut self) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            let column = self.tokens.get(self.next).map_or(self.end, |t| t.column);
            return Err(FilterError {
                column,
                what: "too many parentheses or `not` inside one another".to_owned(),
                expected: format!("at most {FILTER_DEPTH_MAX}"),
            });
        }
        let expr = if self.take("not") || self.take("!") {
            Expr::Not(Box::new(self.not()?))
        } else if self.take("(") {
            let inner = self.or()?;
            let close = self.token("`)`, `and` or `or`")?;
            if close.quoted || close.text != ")" {
                return Err(refused(&close, "`)`, `and` or `or`"));
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn test(&mut self) -> Result<Expr, FilterError> {
        let side = if self.take("src") {
            Side::Src
        } else if self.take("dst") {
            Side::Dst
        } else {
            Side::Either
        };
        let expected = if side == Side::Either {
            TESTS
        } else {
            "host, net, port, segment, workload or an address"
        };
        let token = self.token(expected)?;
        if let Some(test) = self.end_test(&token)? {
            return Ok(Expr::End(side, test));
        }
        if side != Side::Either || token.quoted {
            return Err(refused(&token, expected));
        }
        let Some(test) = self.whole_test(&token)? else {
            return Err(refused(&token, expected));
        };
        // `tcp port 445`, as tcpdump has it.
        if proto(&token.text).is_some_and(has_ports) && self.is_port_next() {
            let port = self.test()?;
            return Ok(Expr::All(vec![Expr::Whole(test), port]));
        }
        Ok(Expr::Whole(test))
    }

    /// Whether a test of ports follows: `port`, `src port`, `dst port`.
    fn is_port_next(&self) -> bool {
        let ahead = |by: usize, words: &[&str]| {
            let token = self.tokens.get(self.next + by);
            token.is_some_and(|t| !t.quoted && words.contains(&&*t.text))
        };
        ahead(0, &["port"]) || (ahead(0, &["src", "dst"]) && ahead(1, &["port"]))
    }

    fn end_test(&mut self, token: &Token) -> Result<Option<EndTest>, FilterError> {
        if token.quoted {
            return Ok(None);
        }
        Ok(Some(match token.text.as_str() {
            "host" => {
                let token = self.token("an address")?;
                let address: IpAddr = token
                    .text
                    .parse()
                    .map_err(|_| refused(&token, "an address"))?;
                EndTest::Net(Net::new(address, bits_of(address)))
            }
            "net" => {
                let token = self.token(NET)?;
                EndTest::Net(net(&token).ok_or_else(|| refused(&token, NET))?)
            }
            "port" => {
                let token = self.token(PORT)?;
                ports(&token.text).ok_or_else(|| refused(&token, PORT))?
            }
            "segment" => EndTest::Segment(self.token("the name of a segment")?.text),
            "workload" => EndTest::Workload(self.token("the name of a workload")?.text),
            _ => match net(token) {
                Some(net) => EndTest::Net(net),
                None => return Ok(None),
            },
        }))
    }

    fn whole_test(&mut self, token: &Token) -> Result<Option<WholeTest>, FilterError> {
        if let Some(quantity) = Quantity::from_word(&token.text) {
            let compare: Compare = self.word()?;
            let number = self.number("a number, with k, m or g if you like")?;
            return Ok(Some(WholeTest::Number(quantity, compare, number)));
        }
        if let Some(proto) = proto(&token.text) {
            return Ok(Some(WholeTest::Proto(proto)));
        }
        Ok(Some(match token.text.as_str() {
            "proto" => {
                let token = self.token(PROTO)?;
                let number = proto(&token.text).or_else(|| token.text.parse().ok());
                WholeTest::Proto(number.ok_or_else(|| refused(&token, PROTO))?)
            }
            "service" => {
                let asked = self.token("the name of a service")?.text;
                WholeTest::Service(asked_service(&asked))
            }
            "rule" => WholeTest::Rule(self.token("the name of a rule")?.text),
            "pending-rule" => WholeTest::PendingRule(self.token("the name of a rule")?.text),
            "verdict" => WholeTest::Verdict(self.word()?),
            "pending" => WholeTest::Pending(self.word()?),
            "source" => WholeTest::Source(self.word()?),
            "mode" => WholeTest::Mode(self.word()?),
            "coverage" => WholeTest::Coverage(self.word()?),
            "end" => WholeTest::End(self.word()?),
            "kind" => WholeTest::Kind(self.word()?),
            "state" => WholeTest::State(self.word()?),
            "drop" => WholeTest::Drop(self.token("a drop reason")?.text),
            "tunnel" => WholeTest::Tunnel(self.word()?),
            "vlan" => WholeTest::Vlan(self.number("a VLAN id from 0 to 4095")?),
            "vni" => WholeTest::Vni(self.number("a tunnel id")?),
            _ => return Ok(None),
        }))
    }

    /// One word of an enumeration.
    fn word<W: std::str::FromStr<Err = crate::words::UnknownWord>>(
        &mut self,
    ) -> Result<W, FilterError> {
        // The empty word is never known: its error lists what is.
        let known = |word: &str| match word.parse::<W>() {
            Ok(_) => String::new(),
            Err(unknown) => format!("one of {}", unknown.known),
        };
        let token = self.token(&known(""))?;
        token.text.parse().map_err(|_| refused(&token, known("")))
    }

    fn number<N: TryFrom<u64>>(&mut self, expected: &str) -> Result<N, FilterError> {
        let token = self.token(expected)?;
        number(&token.text)
            .and_then(|n| N::try_from(n).ok())
            .ok_or_else(|| refused(&token, expected))
    }
}

const NET: &str = "an address, or a prefix such as 10.0.0.0/8";
const PORT: &str = "a port from 0 to 65535, or a range such as 8000-8099";
const PROTO: &str = "a protocol number from 0 to 255, or tcp, udp, icmp, icmpv6, sctp, gre, esp";

fn alone_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

fn net(token: &Token) -> Option<Net> {
    let (address, bits) = match token.text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (token.text.as_str(), None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = bits.map_or(Some(bits_of(address)), |b| b.parse().ok())?;
    (bits <= bits_of(address)).then(|| Net::new(address, bits))
}

fn ports(text: &str) -> Option<EndTest> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(EndTest::Port { first, last })
}

fn proto(word: &str) -> Option<u8> {
    Some(match word {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "esp" => 50,
        "icmpv6" => 58,
        "sctp" => 132,
        _ => return None,
    })
}

const fn has_ports(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 132)
}

fn number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.chars().last()? {
        'k' => (text.strip_suffix('k')?, 1_000),
        'm' => (text.strip_suffix('m')?, 1_000_000),
        'g' => (text.strip_suffix('g')?, 1_000_000_000),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
