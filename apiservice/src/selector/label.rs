//! The rules of label keys and values (`k8s.io/apimachinery/pkg/util/validation`).

/// Longest name part of a key, and longest value.
const MAX_NAME: usize = 63;

/// Longest prefix of a key: a DNS subdomain.
const MAX_PREFIX: usize = 253;

/// Why a requirement cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// The key breaks the rules.
    #[error(
        "label key {key:?}: expected [prefix/]name, the prefix a DNS subdomain of at most 253 characters, the name at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit"
    )]
    Key {
        /// The key as given.
        key: String,
    },
    /// A value breaks the rules.
    #[error(
        "value {value:?} of label {key:?}: expected at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit, or nothing"
    )]
    Value {
        /// Its key.
        key: String,
        /// The value as given.
        value: String,
    },
    /// `in` and `notin` need something to compare with.
    #[error("label {key:?}: 'in' and 'notin' need at least one value")]
    NoValues {
        /// Its key.
        key: String,
    },
    /// `>` and `<` compare integers.
    #[error("label {key:?}: '>' and '<' need an integer, not {value:?}")]
    NoInteger {
        /// Its key.
        key: String,
        /// The value as given.
        value: String,
    },
    /// An operator of a `LabelSelector` that does not exist, or whose values do not fit.
    #[error(
        "label {key:?}: expected operator In, NotIn, Exists or DoesNotExist, with values for the first two only, not {operator:?}"
    )]
    Operator {
        /// Its key.
        key: String,
        /// The operator as given.
        operator: String,
    },
}

/// Whether `key` may be a label's key.
pub(super) fn check_key(key: &str) -> Result<(), InvalidLabel> {
    let fine = match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    };
    if fine { Ok(()) } else { Err(InvalidLabel::Key { key: key.to_owned() }) }
}

/// Whether `value` may be a label's value.
pub(super) fn check_value(key: &str, value: &str) -> Result<(), InvalidLabel> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(InvalidLabel::Value { key: key.to_owned(), value: value.to_owned() })
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && bounded(text, |byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_subdomain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_PREFIX
        && text.split('.').all(|part| bounded(part, inner) && part.bytes().all(|byte| inner(byte) || byte == b'-'))
}

/// Whether the first and the last byte are as `edge` wants them.
fn bounded(text: &str, edge: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => edge(*only),
        [first, .., last] => edge(*first) && edge(*last),
    }
}
