//! Errors, for people.

/// An error with its causes, as far as it does not say them itself: the outermost alone often says "client error".
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[test]
    fn a_failure_is_told_with_its_cause_and_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error")]
        struct Client(#[source] std::io::Error);
        let refused = || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        assert_eq!(causes(&Client(refused())), "client error: connection refused");
        let repeats = kube::Error::Service(Box::new(Client(refused())));
        assert_eq!(causes(&repeats), "ServiceError: client error: connection refused");
    }
}
