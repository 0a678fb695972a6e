//! `/version` (`k8s.io/apimachinery/pkg/version`).

use serde::Serialize;

/// What a server says about itself. Every field may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// First number of the version.
    pub major: String,
    /// Second number of the version.
    pub minor: String,
    /// The whole version, with a `v` before it.
    pub git_version: String,
    /// Commit that it was built from.
    pub git_commit: String,
    /// `clean` or `dirty`.
    pub git_tree_state: String,
    /// When it was built, RFC 3339.
    pub build_date: String,
    /// Go's version in servers written in Go; clients want the field to exist.
    pub go_version: String,
    /// The compiler.
    pub compiler: String,
    /// Operating system and architecture, as `linux/amd64`.
    pub platform: String,
}

impl VersionInfo {
    /// From a version such as `0.1.0`, usually the calling crate's `CARGO_PKG_VERSION`.
    #[must_use]
    pub fn of(version: &str) -> Self {
        let mut numbers = version.split('.').map(str::to_owned);
        Self {
            major: numbers.next().unwrap_or_default(),
            minor: numbers.next().unwrap_or_default(),
            git_version: format!("v{version}"),
            compiler: "rustc".to_owned(),
            platform: format!("{}/{}", std::env::consts::OS, architecture()),
            ..Self::default()
        }
    }
}

/// The architecture in Kubernetes' words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
