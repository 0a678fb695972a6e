//! Why a scrape failed, in words for operators. No variant holds a credential, and none holds a URL's query.

use std::{collections::BTreeMap, error::Error, io, time::Duration};

use super::BadLine;
use crate::{config::Bytes, exposition::PageError};

/// How far a scrape had come when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Reading the files of the target's `access`.
    #[default]
    Files,
    /// Connecting, or waiting for the answer's head: the HTTP client does not tell one from the other.
    Head,
    /// The head is there, so many bytes of the body too.
    Body(u64),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files => write!(f, "while reading the files of its access settings"),
            Self::Head => write!(f, "before it answered"),
            Self::Body(bytes) => write!(f, "after {bytes} bytes of the page"),
        }
    }
}

/// Why a scrape failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScrapeError {
    /// A file of `access` cannot be used.
    #[error("access.{field} {path}: {reason}")]
    Access {
        /// The setting.
        field: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens there.
    #[error("connection refused")]
    ConnectionRefused,
    /// The host's name has no address.
    #[error("the host's name does not resolve: {0}")]
    Name(String),
    /// The connection could not be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The time for one scrape is over.
    #[error("timed out after {} {stage}", crate::config::Duration(*limit))]
    Timeout {
        /// The setting `scrape.timeout`.
        limit: Duration,
        /// How far it had come.
        stage: Stage,
    },
    /// The connection ended or broke before there was a whole head.
    #[error("no HTTP answer: {0}")]
    NoAnswer(String),
    /// Another status than 200.
    #[error("HTTP {status}{hint}")]
    Status {
        /// Code and canonical reason.
        status: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// Redirects are not followed: they would carry credentials to where nobody sent them.
    #[error("redirect to {location} refused; configure the URL that it leads to")]
    Redirect {
        /// Where to, without user name, password and query.
        location: String,
    },
    /// Not a page of metrics.
    #[error("the answer is {0}, not a page of metrics in text format")]
    ContentType(String),
    /// The body is compressed in a manner that was not asked for, or the compression is broken.
    #[error("the page's compression: {0}")]
    Encoding(String),
    /// The page is larger than allowed (R22).
    #[error("page larger than {limit} ({setting})")]
    TooLarge {
        /// The name of the setting.
        setting: &'static str,
        /// Its value.
        limit: Bytes,
    },
    /// The connection ended before the body was complete.
    #[error("cut off after {bytes} bytes of the page: {reason}")]
    CutOff {
        /// How much had arrived.
        bytes: u64,
        /// What the connection says.
        reason: String,
    },
    /// The page was refused whole.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A page of something else than a model server.
    #[error("no family of a model server is on the page")]
    NoFamily,
    /// Bad lines and not one sample.
    #[error("no usable sample on the page, and {} bad lines, by reason: {bad_lines:?}", bad_lines.values().sum::<u64>())]
    Garbage {
        /// Bad lines by reason.
        bad_lines: BTreeMap<BadLine, u64>,
    },
}

impl ScrapeError {
    /// A short name for the `reason` label of our own metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Access { .. } => "access",
            Self::ConnectionRefused => "connection_refused",
            Self::Name(_) => "name",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout { .. } => "timeout",
            Self::NoAnswer(_) => "no_answer",
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::ContentType(_) => "content_type",
            Self::Encoding(_) => "encoding",
            Self::TooLarge { .. } => "too_large",
            Self::CutOff { .. } => "cut_off",
            Self::Page(PageError::TooManySamples { .. }) => "too_many_samples",
            Self::Page(PageError::NoEof | PageError::AfterEof) => "eof",
            Self::NoFamily => "no_family",
            Self::Garbage { .. } => "garbage",
        }
    }

    /// Why there was no head.
    pub(super) fn from_head(error: &reqwest::Error) -> Self {
        for cause in chain(error) {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls_words(tls));
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return Self::ConnectionRefused;
            }
        }
        let words = deepest(error);
        if error.is_dns() {
            Self::Name(words)
        } else if error.is_connect() {
            Self::Connect(words)
        } else {
            Self::NoAnswer(words)
        }
    }

    /// Why the body ended early.
    pub(super) fn from_body(error: &reqwest::Error, bytes: u64) -> Self {
        // The decoder reports what is wrong with the compressed data itself as invalid; everything else, an unexpected
        // end among it, is the connection's.
        let broken = chain(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .find(|io| matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
        match broken {
            Some(io) => Self::Encoding(io.to_string()),
            None => Self::CutOff { bytes, reason: deepest(error) },
        }
    }
}

/// Prefixes what rustls says with what to do about it, where that is known.
fn tls_words(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        // The second is what a CA of the same name with another key comes to.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the certificate's issuer is not trusted; set access.caFile to its CA".into()
        }
        Error::InvalidMessage(_) => format!("the target does not speak TLS here; is it plain http? ({error})"),
        _ => error.to_string(),
    }
}

/// The error and its causes. An `io::Error` made from another error hides it from `source`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// What the last cause says: those above it only say where it happened, and the first names the URL.
pub(super) fn deepest(error: &reqwest::Error) -> String {
    chain(error).skip(1).last().map_or_else(|| "the request cannot be sent".to_owned(), ToString::to_string)
}

/// Drops user name, password, query and fragment.
pub(super) fn location_words(location: &str) -> String {
    let end = location.find(['?', '#']).unwrap_or(location.len());
    super::targets::without_userinfo(&location[..end])
}
