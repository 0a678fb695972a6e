//! Errors of requests to the API server, for people.

use apiservice::causes;

/// What went wrong, in the API server's words if it has answered. kube's own text repeats the answer in the form in which
/// programs print it.
#[must_use]
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the API server answers {}: {}", status.code, status.message),
        kube::Error::Service(error) => causes(&**error),
        other => causes(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_the_api_servers_words_and_a_failure_with_its_cause() {
        let status =
            serde_json::json!({"code": 403, "message": "leases \"tidegate\" is forbidden", "reason": "Forbidden"});
        let refused = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(said(&refused), "the API server answers 403: leases \"tidegate\" is forbidden");
        let broken = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "tcp connect error");
        assert_eq!(said(&kube::Error::Service(Box::new(broken))), "tcp connect error");
    }
}
