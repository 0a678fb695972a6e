//! Every way in which a target can fail us, and what is said about it.

use std::net::TcpListener;

use super::{
    exporter::{Act, Exporter, gzip, ok},
    *,
};

/// A failing exporter, the words for it (a prefix), and the `reason` label.
struct Case {
    exporter: Option<Exporter>,
    url: String,
    says: &'static str,
    reason: &'static str,
}

fn answers(answer: impl Into<Vec<u8>>, says: &'static str, reason: &'static str) -> Case {
    does(Exporter::always(answer), says, reason)
}

/// Sends that and then nothing more, with the connection open or closed.
fn stops(answer: &'static str, open: bool, says: &'static str, reason: &'static str) -> Case {
    let script = move |_: &_| vec![Act::Send(answer.into()), if open { Act::Hang } else { Act::Close }];
    does(Exporter::new(script), says, reason)
}

fn does(exporter: Exporter, says: &'static str, reason: &'static str) -> Case {
    Case { url: exporter.url(), exporter: Some(exporter), says, reason }
}

fn cases() -> Vec<Case> {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endless = |head: &'static str, lump: &'static str| {
        Exporter::new(move |_| vec![Act::Send(head.into()), Act::Forever(lump.repeat(1000).into())])
    };
    let packed = gzip(PAGE.repeat(40).as_bytes());
    vec![
        Case {
            exporter: None,
            url: format!("http://{dead}/metrics"),
            says: "connection refused",
            reason: "connection_refused",
        },
        // Too slow.
        does(Exporter::new(|_| vec![Act::Hang]), "timed out after 2s before it answered", "timeout"),
        stops("HTTP/1.1 200 OK\r\nContent-", true, "timed out after 2s before it answered", "timeout"),
        stops(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nDCGM_FI_DE",
            true,
            "timed out after 2s after 10 bytes of the page",
            "timeout",
        ),
        // Too large.
        does(
            endless("HTTP/1.1 200 OK\r\n\r\n", "# still talking\n"),
            "page larger than 64KiB (scrape.pageBytes)",
            "too_large",
        ),
        does(
            endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\n# hi\n\r\n"),
            "page larger than 64KiB (scrape.pageBytes)",
            "too_large",
        ),
        stops(
            "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
            true,
            "page larger than 64KiB (scrape.pageBytes)",
            "too_large",
        ),
        answers(
            ok("Content-Encoding: gzip\r\n", gzip(&vec![b'#'; 50 << 20])),
            "page larger than 64KiB (scrape.pageBytes)",
            "too_large",
        ),
        answers(ok("", PAGE.repeat(101)), "the page has more than 100 samples", "too_many_samples"),
        // Cut off.
        stops(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nDCGM_FI_DE",
            false,
            "cut off after 10 bytes of the page: ",
            "cut_off",
        ),
        stops(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nDCGM_FI_\r\n",
            false,
            "cut off after 8 bytes of the page: ",
            "cut_off",
        ),
        answers(ok("Content-Encoding: gzip\r\n", &packed[..packed.len() - 9]), "cut off after ", "cut_off"),
        answers(
            ok("Content-Type: application/openmetrics-text\r\n", PAGE),
            "the OpenMetrics page does not end with `# EOF`",
            "eof",
        ),
        // Not HTTP, or not for us.
        does(Exporter::new(|_| vec![Act::Close]), "no HTTP answer: ", "no_answer"),
        stops("SSH-2.0-OpenSSH_9.2\r\n", false, "no HTTP answer: ", "no_answer"),
        answers(
            "HTTP/1.1 302 Found\r\nLocation: http://me:hunter2@elsewhere/login?ticket=hunter2#top\r\nContent-Length: 0\r\n\r\n",
            "redirect to http://…@elsewhere/login refused; configure the URL that it leads to",
            "redirect",
        ),
        answers("HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP 304 Not Modified", "status"),
        answers(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            "HTTP 401 Unauthorized; check bearerTokenFile or basicAuth in the target's access settings",
            "status",
        ),
        answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404 Not Found; check the path", "status"),
        answers("HTTP/1.1 503 Overloaded\r\nContent-Length: 0\r\n\r\n", "HTTP 503 Service Unavailable", "status"),
        answers("HTTP/1.1 204 No Content\r\n\r\n", "HTTP 204 No Content", "status"),
        // Not a page.
        answers(
            ok("Content-Type: text/html; charset=utf-8\r\n", "<html></html>"),
            "the answer is text/html, not a page of metrics in text format",
            "content_type",
        ),
        answers(ok("Content-Encoding: br\r\n", "x"), "the page's compression: br was not asked for", "encoding"),
        answers(ok("Content-Encoding: gzip\r\n", PAGE), "the page's compression: ", "encoding"),
        answers(ok("", "<<<\n\u{1}\u{2}\n{}\n"), "no usable sample on the page, and 3 bad lines", "garbage"),
        // The other protocol.
        Case { url: String::new(), ..answers(ok("", PAGE), "TLS: the target does not speak TLS here", "tls") },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_is_told_in_words_and_leaves_the_neighbours_alone() {
    let healthy = Exporter::always(ok("", PAGE));
    let mut cases = cases();
    for case in &mut cases {
        if let (Some(exporter), true) = (&case.exporter, case.url.is_empty()) {
            case.url = exporter.url().replace("http://", "https://");
        }
    }
    let mut config = config::Scrape {
        // Thirty exporters share the machine with other tests: only those that hang may be too slow.
        interval: config::Duration(Duration::from_millis(500)),
        timeout: config::Duration(Duration::from_secs(2)),
        ..settings(cases.iter().map(|case| case.url.clone()).chain([healthy.url()]))
    };
    for target in config.urls.iter_mut().filter(|target| target.url.starts_with("https")) {
        target.access.insecure_skip_tls_verify = true;
    }
    let rig = Rig::start(&config);
    for Case { url, says, .. } in &cases {
        println!("expecting {url} to fail with {says:?}");
        let said = |tracked: &Tracked| tracked.status.last_error.as_ref().is_some_and(|error| error.starts_with(says));
        let tracked = rig.target_until(url, said).await;
        assert!(tracked.batch.is_none() && tracked.status.last_success.is_none() && tracked.status.failures > 0);
        assert!(!format!("{tracked:?}").contains("hunter2"), "{tracked:?}");
    }
    let snapshot = rig.store.snapshot();
    for Case { reason, says, .. } in &cases {
        assert!(snapshot.totals.failures[reason] > 0, "{says} counts as {reason}: {:?}", snapshot.totals);
    }
    let lives = |tracked: &Tracked| tracked.batch.is_some() && tracked.status.last_error.is_none();
    rig.target_until(&healthy.url(), lives).await;
    rig.stop().await;
}
