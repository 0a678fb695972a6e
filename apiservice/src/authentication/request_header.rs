//! The front proxy's word: kube-apiserver's aggregator authenticates the user and passes the identity in headers, under
//! its own client certificate.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authentication::{AuthenticationError, Authority, User};

/// Whose headers are believed, and which headers these are.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    authority: Authority,
    /// Common names of front proxies; empty: any that the authority signed.
    allowed_names: Vec<String>,
    username: Vec<HeaderName>,
    group: Vec<HeaderName>,
    uid: Vec<HeaderName>,
    /// In lower case, as header names arrive.
    extra_prefixes: Vec<String>,
}

/// Names of the headers; the defaults are those of k8s.io/apiserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderNames {
    /// The first of these that is set names the user.
    pub username: Vec<HeaderName>,
    /// All values of all of these are groups.
    pub group: Vec<HeaderName>,
    /// The first of these that is set is the UID; none by default.
    pub uid: Vec<HeaderName>,
    /// What begins with one of these carries an extra attribute.
    pub extra_prefixes: Vec<String>,
}

impl Default for HeaderNames {
    fn default() -> Self {
        Self {
            username: vec![HeaderName::from_static("x-remote-user")],
            group: vec![HeaderName::from_static("x-remote-group")],
            uid: Vec::new(),
            extra_prefixes: vec!["x-remote-extra-".into()],
        }
    }
}

impl RequestHeader {
    /// Believes `headers` from proxies whose certificate `authority` signed to one of `allowed_names`.
    #[must_use]
    pub fn new(authority: Authority, allowed_names: Vec<String>, headers: HeaderNames) -> Self {
        let HeaderNames { username, group, uid, extra_prefixes } = headers;
        let extra_prefixes = extra_prefixes.iter().map(|prefix| prefix.to_ascii_lowercase()).collect();
        Self { authority, allowed_names, username, group, uid, extra_prefixes }
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn allows(&self, common_name: &str) -> Result<(), String> {
        if self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name) {
            Ok(())
        } else {
            Err(format!("common name {common_name:?} is not among the allowed names of front proxies"))
        }
    }

    /// The user that the headers name; `None` if they name none.
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<Option<User>, AuthenticationError> {
        let Some(name) = first(headers, &self.username)? else { return Ok(None) };
        let uid = first(headers, &self.uid)?.unwrap_or_default().to_owned();
        let mut groups = Vec::new();
        for header in &self.group {
            for value in headers.get_all(header) {
                let group = text(header, value)?;
                if !group.is_empty() {
                    groups.push(group.to_owned());
                }
            }
        }
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (header, value) in headers {
            if let Some(key) = self.extra_prefixes.iter().find_map(|prefix| header.as_str().strip_prefix(prefix)) {
                extra.entry(unescape_extra_key(key)).or_default().push(text(header, value)?.to_owned());
            }
        }
        Ok(Some(User { name: name.to_owned(), uid, groups, extra }))
    }

    /// Removes every identity header, believed or not.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        let is_identity = |header: &HeaderName| {
            [&self.username, &self.group, &self.uid].into_iter().flatten().any(|name| name == header)
                || self.extra_prefixes.iter().any(|prefix| header.as_str().starts_with(prefix))
        };
        let doomed: Vec<_> = headers.keys().filter(|header| is_identity(header)).cloned().collect();
        for header in doomed {
            headers.remove(header);
        }
    }
}

fn first<'a>(headers: &'a HeaderMap, names: &[HeaderName]) -> Result<Option<&'a str>, AuthenticationError> {
    for name in names {
        if let Some(value) = headers.get(name) {
            let value = text(name, value)?.trim();
            if !value.is_empty() {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, AuthenticationError> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| AuthenticationError::Invalid(format!("header {name} is not UTF-8")))
}

/// `foo%2Fbar` → `foo/bar`, in lower case before decoding as the Go server does it; what does not decode stays as it is.
pub(crate) fn unescape_extra_key(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    match crate::request_path::decode(&key) {
        Some(decoded) => decoded,
        None => key,
    }
}
