//! `Impersonate-*` headers: acting as someone else, for those who may `impersonate` them.
//!
//! Each name that is asked for is a question of its own to the authorizer, as in k8s.io/apiserver's
//! `pkg/endpoints/filters/impersonation.go`. A request that may not is refused; the headers are never ignored.

use std::collections::BTreeSet;

use http::HeaderMap;

use crate::{
    Status,
    authentication::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, request_header::unescape_extra_key},
    authorization::{Attributes, AuthorizationError, Authorizer},
};

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// API group of `uids` and `userextras`.
const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
/// Prefix of a service account's user name; namespace and name follow, with a colon between.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Each name costs a question to the API server.
const MAX_NAMES: usize = 64;

/// Why nobody was impersonated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationError {
    /// The headers make no sense.
    #[error("{0}")]
    Malformed(String),
    /// The user may not, or that could not be decided.
    #[error(transparent)]
    Refused(#[from] AuthorizationError),
}

impl From<ImpersonationError> for Status {
    fn from(error: ImpersonationError) -> Self {
        match error {
            ImpersonationError::Malformed(why) => Self::bad_request(why),
            ImpersonationError::Refused(error) => error.into(),
        }
    }
}

/// Who the headers ask to be; `None` without such headers.
fn requested(headers: &HeaderMap) -> Result<Option<User>, ImpersonationError> {
    let malformed = |why: String| ImpersonationError::Malformed(why);
    let mut user = User::default();
    let mut count = 0;
    for (header, value) in headers.iter().filter(|(header, _)| header.as_str().starts_with(PREFIX)) {
        let header = header.as_str();
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| malformed(format!("header {header} is not UTF-8")))?
            .to_owned();
        count += 1;
        let single = |field: &mut String, value: String| {
            if field.is_empty() {
                *field = value;
                Ok(())
            } else {
                Err(malformed(format!("header {header} may be given once")))
            }
        };
        match header {
            USER => single(&mut user.name, value)?,
            UID => single(&mut user.uid, value)?,
            GROUP => user.groups.push(value),
            _ => match header.strip_prefix(EXTRA).filter(|key| !key.is_empty()) {
                Some(key) => user.extra.entry(unescape_extra_key(key)).or_default().push(value),
                None => return Err(malformed(format!("header {header} is not known"))),
            },
        }
    }
    if count > MAX_NAMES {
        return Err(malformed(format!("at most {MAX_NAMES} Impersonate-* headers are accepted, found {count}")));
    }
    match (count, user.name.is_empty()) {
        (0, _) => Ok(None),
        (_, true) => Err(malformed("Impersonate-* headers need a user in Impersonate-User".into())),
        (_, false) => Ok(Some(user)),
    }
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(SERVICE_ACCOUNT)?
        .split_once(':')
        .filter(|(namespace, account)| !namespace.is_empty() && !account.is_empty() && !account.contains(':'))
}

fn question(group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> Attributes {
    Attributes::Resource {
        verb: "impersonate".into(),
        namespace: namespace.into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: name.into(),
    }
}

/// All that `requester` must be allowed in order to be `wanted`.
fn questions(wanted: &User) -> Vec<Attributes> {
    let User { name, uid, groups, extra } = wanted;
    let mut questions = vec![match service_account(name) {
        Some((namespace, account)) => question("", "serviceaccounts", "", namespace, account),
        None => question("", "users", "", "", name),
    }];
    questions.extend(groups.iter().map(|group| question("", "groups", "", "", group)));
    if !uid.is_empty() {
        questions.push(question(AUTHENTICATION_GROUP, "uids", "", "", uid));
    }
    for (key, values) in extra {
        questions.extend(values.iter().map(|value| question(AUTHENTICATION_GROUP, "userextras", key, "", value)));
    }
    questions
}

/// Adds the groups that the name implies.
fn complete(mut user: User) -> User {
    if let Some((namespace, _)) = service_account(&user.name)
        && user.groups.is_empty()
    {
        user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    if user.name == ANONYMOUS {
        if !user.groups.iter().any(|group| group == UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.into());
        }
        return user;
    }
    if !user.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

/// The user that the request acts as: `requester`, or whom it may impersonate. The headers are taken away.
pub(crate) async fn impersonate(
    requester: User,
    headers: &mut HeaderMap,
    authorizer: &Authorizer,
) -> Result<User, ImpersonationError> {
    let Some(wanted) = requested(headers)? else { return Ok(requester) };
    for attributes in questions(&wanted) {
        authorizer.authorize(&requester, &attributes).await?;
    }
    let names: BTreeSet<_> =
        headers.keys().map(|header| header.as_str().to_owned()).filter(|header| header.starts_with(PREFIX)).collect();
    for name in names {
        headers.remove(name);
    }
    tracing::info!(requester = requester.name, as_user = wanted.name, "impersonation");
    Ok(complete(wanted))
}
