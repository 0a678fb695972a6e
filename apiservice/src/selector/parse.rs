//! Lexer and parser of the selector grammar.

use std::{iter::Peekable, str::FromStr};

use super::{Condition, InvalidLabel, Requirement, Selector};

/// Longest text, in bytes: as long as a request's path and query may be. Beyond, it is refused.
pub const MAX_BYTES: usize = 65_536;
/// Most requirements: each is checked against each object. The selectors of controllers have a handful. Beyond, it is refused.
pub const MAX_REQUIREMENTS: usize = 256;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectorError {
    /// The grammar wants something else at this place.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// It is longer than anything that selects.
    #[error("{found} {of} are more than {limit}")]
    TooLarge {
        /// What there is too much of.
        of: &'static str,
        /// How much there is, or was when counting stopped.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A key or value breaks the rules of labels.
    #[error(transparent)]
    Label(#[from] InvalidLabel),
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_BYTES {
            return Err(ParseSelectorError::TooLarge { of: "bytes", found: text.len(), limit: MAX_BYTES });
        }
        let mut tokens = Tokens { inner: Lexer { text }.peekable() };
        let mut requirements = Vec::new();
        if tokens.peek().is_none() {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(requirement(&mut tokens)?);
            if requirements.len() > MAX_REQUIREMENTS {
                let found = requirements.len();
                return Err(ParseSelectorError::TooLarge { of: "requirements", found, limit: MAX_REQUIREMENTS });
            }
            match tokens.next() {
                None => return Ok(Self::from(requirements)),
                Some(Token::Comma) => {}
                found => return Err(unexpected(found, "',' or the end")),
            }
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, ParseSelectorError> {
    let absent = tokens.peek() == Some(Token::Not);
    if absent {
        tokens.next();
    }
    let key = match tokens.next() {
        Some(Token::Word(key)) => key,
        found => return Err(unexpected(found, if absent { "a label key" } else { "a label key or '!'" })),
    };
    if matches!(tokens.peek(), None | Some(Token::Comma)) {
        return Ok(Requirement::new(key, if absent { Condition::DoesNotExist } else { Condition::Exists })?);
    }
    if absent {
        return Err(unexpected(tokens.next(), "',' or the end after '!key'"));
    }
    let condition = match tokens.next() {
        Some(Token::Equals) => Condition::Equals(value(tokens)?.to_owned()),
        Some(Token::NotEquals) => Condition::NotEquals(value(tokens)?.to_owned()),
        Some(Token::Greater) => Condition::GreaterThan(bound(key, value(tokens)?)?),
        Some(Token::Less) => Condition::LessThan(bound(key, value(tokens)?)?),
        Some(Token::Word("in")) => Condition::In(values(tokens)?),
        Some(Token::Word("notin")) => Condition::NotIn(values(tokens)?),
        found => return Err(unexpected(found, "one of = == != > < in notin")),
    };
    Ok(Requirement::new(key, condition)?)
}

fn bound(key: &str, value: &str) -> Result<i64, InvalidLabel> {
    value.parse().map_err(|_| InvalidLabel::NoInteger { key: key.to_owned(), value: value.to_owned() })
}

/// The value after an operator: nothing before a comma or the end is the empty value.
fn value<'t>(tokens: &mut Tokens<'t>) -> Result<&'t str, ParseSelectorError> {
    if matches!(tokens.peek(), None | Some(Token::Comma)) {
        return Ok("");
    }
    match tokens.next() {
        Some(Token::Word(value)) => Ok(value),
        found => Err(unexpected(found, "a value")),
    }
}

/// `(a,b)`: an empty place beside a comma is the empty value, `()` is an empty set, which no operator takes.
fn values(tokens: &mut Tokens<'_>) -> Result<Vec<String>, ParseSelectorError> {
    match tokens.next() {
        Some(Token::Open) => {}
        found => return Err(unexpected(found, "'('")),
    }
    if tokens.peek() == Some(Token::Close) {
        tokens.next();
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    loop {
        match tokens.peek() {
            Some(Token::Word(value)) => {
                tokens.next();
                values.push(value.to_owned());
            }
            _ => values.push(String::new()),
        }
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::Close) => return Ok(values),
            found => return Err(unexpected(found, "',' or ')'")),
        }
    }
}

fn unexpected(found: Option<Token<'_>>, expected: &'static str) -> ParseSelectorError {
    let found = match found {
        None => "the end".to_owned(),
        Some(Token::Word(word) | Token::Wrong(word)) => format!("{word:?}"),
        Some(Token::Comma) => "','".to_owned(),
        Some(Token::Open) => "'('".to_owned(),
        Some(Token::Close) => "')'".to_owned(),
        Some(Token::Not) => "'!'".to_owned(),
        Some(Token::Equals) => "'='".to_owned(),
        Some(Token::NotEquals) => "'!='".to_owned(),
        Some(Token::Greater) => "'>'".to_owned(),
        Some(Token::Less) => "'<'".to_owned(),
    };
    ParseSelectorError::Unexpected { found, expected }
}

/// Tokens with one of lookahead.
struct Tokens<'t> {
    inner: Peekable<Lexer<'t>>,
}

impl<'t> Tokens<'t> {
    fn peek(&mut self) -> Option<Token<'t>> {
        self.inner.peek().copied()
    }

    fn next(&mut self) -> Option<Token<'t>> {
        self.inner.next()
    }
}

/// A piece of a selector. `in` and `notin` are words: they may be keys and values as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
    /// Nothing that belongs here; only a NUL byte, which the original takes for the end of the text.
    Wrong(&'t str),
}

/// What is left of the text.
struct Lexer<'t> {
    text: &'t str,
}

impl<'t> Lexer<'t> {
    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.text.split_at(length);
        self.text = rest;
        taken
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.text = self.text.trim_start_matches([' ', '\t', '\r', '\n']);
        let token = match *self.text.as_bytes() {
            [] => return None,
            [b'=', b'=', ..] => (Token::Equals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'!', ..] => (Token::Not, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            [0, ..] => return Some(Token::Wrong(self.take(1))),
            _ => {
                let end = self.text.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<', '\0']);
                return Some(Token::Word(self.take(end.unwrap_or(self.text.len()))));
            }
        };
        self.take(token.1);
        Some(token.0)
    }
}
