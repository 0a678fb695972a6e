//! Questions that nobody asks in good faith. Each has a bounded answer that says what is wrong, and nothing stays behind.

use std::fmt::Write as _;

use crate::{get, get_with, server, values::FIXTURE};

const PODS: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*";
const QUEUES: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth";
/// Longest answer to any of these questions, in bytes.
const LONGEST: usize = 16 * 1024;

#[tokio::test]
async fn a_selector_has_a_bounded_number_of_requirements() {
    let (app, _) = server(FIXTURE);
    let many = |count: usize| {
        let mut selector = String::from("app%3Dllm");
        for index in 1..count {
            write!(selector, "%2C!x{index}").expect("strings take everything");
        }
        selector
    };
    for (path, parameter, found) in [
        (format!("{PODS}/vllm:num_requests_running"), "labelSelector", 2),
        (format!("{PODS}/vllm:num_requests_running"), "metricLabelSelector", 0),
        (QUEUES.to_owned(), "labelSelector", 0),
    ] {
        let answer = get(&app, &format!("{path}?{parameter}={}", many(256))).await;
        assert_eq!(answer.items().len(), found, "{path} {parameter}");
        for count in [257, 5000] {
            let answer = get(&app, &format!("{path}?{parameter}={}", many(count))).await;
            let message = answer.failure(400, "BadRequest");
            assert!(message.starts_with(&format!("unable to parse {parameter} \"app=llm,!x1,")), "{message}");
            assert!(answer.body.len() < LONGEST, "{} bytes", answer.body.len());
        }
    }
    let short = get(&app, &format!("{PODS}/vllm:num_requests_running?labelSelector={}", many(300))).await;
    assert!(short.failure(400, "BadRequest").ends_with("257 requirements are more than 256"));
}

#[tokio::test]
async fn names_of_any_length_and_any_letters_are_not_found_and_not_remembered() {
    let (app, _) = server(FIXTURE);
    for name in [
        "m".repeat(9000),
        "%F0%9F%94%A5".repeat(750),
        "%00".to_owned(),
        "a%00b".to_owned(),
        "%0D%0ASet-Cookie:%20a".to_owned(),
        "%E2%80%AE".to_owned(),
        "%22%7D%5D".to_owned(),
        "%3Cscript%3E".to_owned(),
        "%7B%7B.%7D%7D".to_owned(),
        "..".to_owned(),
        "%2e%2e".to_owned(),
        "%25".to_owned(),
    ] {
        for path in [
            format!("{PODS}/{name}"),
            format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/{name}/x/huge"),
            format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/x{name}/huge"),
            format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{name}/pods/llm-0/huge"),
        ] {
            let answer = get(&app, &path).await;
            answer.failure(404, "NotFound");
            assert!(answer.body.len() < LONGEST, "{path}: {} bytes", answer.body.len());
            assert!(!answer.headers.contains_key("set-cookie"));
            let yaml = get_with(&app, &path, &[("accept", "application/yaml")]).await;
            assert!(yaml.body.len() < 2 * LONGEST, "{path}: {} bytes", yaml.body.len());
            assert!(std::str::from_utf8(&yaml.body).is_ok_and(|text| text.contains("reason: NotFound")), "{yaml:?}");
        }
        let answer = get(&app, &format!("{}/{name}", QUEUES.trim_end_matches("/queue_depth"))).await;
        assert!(answer.code == 200 || answer.code == 404, "{name}: {answer:?}");
    }
    let page = String::from_utf8(get(&app, "/metrics").await.body.to_vec()).expect("text");
    for part in ["mmmm", "script", "Cookie", "\u{202e}"] {
        assert!(!page.contains(part), "{part}");
    }
}

#[tokio::test]
async fn of_a_parameter_that_is_given_twice_the_first_counts_for_every_reader() {
    let (app, _) = server(FIXTURE);
    let metric = format!("{PODS}/vllm:num_requests_running");
    for (query, found) in [
        ("labelSelector=app%3Dweb&labelSelector=app%3Dllm", 0),
        ("labelSelector=app%3Dllm&labelSelector=app%3Dweb", 2),
        ("label%53elector=app%3Dweb&labelSelector=app%3Dllm", 0),
        ("labelselector=app%3Dweb", 2),
        ("labelSelector=tier+in+(a)", 1),
        ("=&&&==&=x&labelSelector=app%3Dllm", 2),
    ] {
        assert_eq!(get(&app, &format!("{metric}?{query}")).await.items().len(), found, "{query}");
    }
    let ampersands = "&".repeat(60_000);
    assert_eq!(get(&app, &format!("{metric}?{ampersands}")).await.items().len(), 2);
    for query in
        ["labelSelector=%00", "labelSelector=app%3D%F0%9F%94%A5", "labelSelector=((((", "timeout=1e9s", "limit=1e9"]
    {
        get(&app, &format!("{metric}?{query}")).await.failure(400, "BadRequest");
    }
}

#[tokio::test]
async fn headers_and_health_paths_do_not_answer_more_than_they_were_asked() {
    let (app, _) = server(FIXTURE);
    // A million bytes of alternatives, the acceptable one behind them.
    let accept = "a/b;q=0.1,".repeat(100_000) + "application/json";
    assert_eq!(get_with(&app, QUEUES, &[("accept", &accept)]).await.code.as_u16(), 406);
    assert_eq!(get_with(&app, QUEUES, &[("accept", "a/b,a/c;q=0.1,*/*")]).await.code.as_u16(), 200);
    let unknown = "exclude=secret&".repeat(4000);
    let answer = get(&app, &format!("/readyz?verbose&{unknown}")).await;
    assert_eq!(answer.code.as_u16(), 200);
    assert!(answer.body.len() < LONGEST, "{} bytes", answer.body.len());
}
