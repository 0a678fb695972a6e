//! YAML → [`Config`]. An unknown key is an error that names the nearest known one.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{Config, Invalid};

/// Why a configuration file is not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not YAML, or a value has the wrong form.
    #[error("{}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// A key that does not exist.
    #[error("{}:{line}:{column}: unknown key {key:?}{}; known keys here: {}", path.display(), did_you_mean(*nearest), known.join(", "))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// The key as written.
        key: String,
        /// The most similar known key, if any is similar.
        nearest: Option<&'static str>,
        /// All keys of that mapping.
        known: Vec<&'static str>,
    },
    /// The values contradict each other or are out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map(|key| format!(", did you mean {key:?}?")).unwrap_or_default()
}

/// Two keys this similar (Jaro–Winkler) are probably meant to be the same; `clap` uses the same bound for flags.
const SIMILAR: f64 = 0.7;

impl Config {
    /// Reads `path`. The result is not validated yet: flags may still complete it.
    ///
    /// # Errors
    /// [`LoadError`], except for its variant `Invalid`.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        read(path)
    }

    /// Reads YAML text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        parse(text, path)
    }
}

/// Reads a file of any type that refuses unknown keys.
///
/// # Errors
/// [`LoadError`], except for its variant `Invalid`.
pub fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
    parse(&text, path)
}

/// As [`read`], of YAML text.
fn parse<T: DeserializeOwned + Default>(text: &str, path: &Path) -> Result<T, LoadError> {
    // A file with nothing but comments is a legal way to ask for the defaults.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---") {
        return Ok(T::default());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, location } => LoadError::UnknownKey {
            path: path.into(),
            line: location.line(),
            column: location.column(),
            nearest: nearest(&field, &expected),
            key: field,
            known: expected,
        },
        other => LoadError::Yaml { path: path.into(), message: other.to_string() },
    })
}

fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&plain(key), &plain(candidate)), *candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, LoadError> {
        Config::parse(text, Path::new("tidegate.yaml"))
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        for text in ["", "# nothing yet\n", "---\n"] {
            assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one_with_its_place() {
        for (text, expected) in [
            ("scrape:\n  intervall: 5s\n", "tidegate.yaml:2:3: unknown key \"intervall\", did you mean \"interval\"?"),
            ("scrape:\n  max_age: 5s\n", "tidegate.yaml:2:3: unknown key \"max_age\", did you mean \"maxAge\"?"),
            ("scrap: {}\n", "tidegate.yaml:1:1: unknown key \"scrap\", did you mean \"scrape\"?"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let message = parse("zzz: 1\n").unwrap_err().to_string();
        assert!(message.contains("unknown key \"zzz\"; known keys here: scrape,"), "{message}");
    }

    #[test]
    fn a_value_of_the_wrong_form_says_what_was_expected_and_where() {
        for (text, expected) in [
            ("scrape:\n  interval: fast\n", "expected a duration such as 500ms, 15s, 1m30s or 2h, got \"fast\""),
            ("aggregate:\n  coverage: 1.5\n", "expected a share between 0 and 1"),
            ("serve:\n  listen: everywhere\n", "invalid socket address"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("line 2"), "{message}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back_unchanged() {
        let config = parse(
            "scrape:\n  interval: 5s\n  urls:\n  - url: http://127.0.0.1:9445/metrics\n    node: gpu-1\n  discover:\n  - preset: ack-gpu-exporter\naggregate: {coverage: 0.75}\nserve:\n  groups: [external.metrics.k8s.io]\n",
        )
        .unwrap();
        let printed = serde_saphyr::to_string(&config).unwrap();
        assert_eq!(parse(&printed).unwrap(), config, "{printed}");
    }
}
