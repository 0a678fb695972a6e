//! Pages that arrive: what is asked for, what a batch says, and which time it has.

use jiff::{SignedDuration, Timestamp};

use super::{
    exporter::{Act, Exporter, gzip, ok},
    *,
};
use crate::reading::Unknown;

/// The batch of the only target.
async fn batch(rig: &Rig) -> Arc<Batch> {
    let snapshot = rig.until(|snapshot| snapshot.batches().next().is_some()).await;
    Arc::clone(snapshot.batches().next().unwrap())
}

fn age(of: Timestamp) -> SignedDuration {
    Clock::start().now().duration_since(of)
}

#[tokio::test]
async fn a_page_becomes_a_batch_with_what_the_target_s_configuration_says() {
    let exporter = Exporter::always(ok("Content-Type: text/plain; version=0.0.4\r\n", [PAGE, "<<<\n"].concat()));
    let access = Access { rank: Some(4), absent_means_idle: true, ..Access::default() };
    let rig = Rig::start(&with_access(exporter.url(), access));
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    let batch = tracked.batch.as_ref().unwrap();
    assert_eq!(batch.target.to_string(), exporter.url());
    assert_eq!((batch.rank, batch.node.as_deref(), batch.absent_means_idle), (4, Some("n7"), true));
    assert_eq!(batch.samples.len(), 1);
    let reading = batch.samples[0].reading.as_ref().unwrap();
    assert_eq!((reading.value.to_bits(), reading.at), (37.0_f64.to_bits(), batch.measured));
    let status = &tracked.status;
    assert_eq!((status.samples, status.bytes, status.failures), (1, PAGE.len() as u64 + 4, 0));
    assert_eq!(status.bad_lines.iter().next(), Some((&BadLine::Name, &1)));
    assert!(status.last_attempt <= Some(batch.measured) && Some(batch.measured) <= status.last_success);
    assert!(status.last_error.is_none() && !status.duration.is_zero());
    rig.stop().await;
}

#[tokio::test]
async fn a_page_with_a_skipped_line_of_no_known_pod_does_not_let_absent_mean_idle() {
    let exporter = Exporter::always(ok("", [PAGE, "DCGM_CUSTOM_PROCESS_SM_UTIL{PodName=\"a\"b\"} 5\n"].concat()));
    let access = Access { absent_means_idle: true, ..Access::default() };
    let rig = Rig::start(&with_access(exporter.url(), access));
    assert!(!batch(&rig).await.absent_means_idle);
    rig.stop().await;
}

#[tokio::test]
async fn every_framing_of_the_same_page_reads_the_same() {
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{PAGE}\r\n0\r\n\r\n", PAGE.len());
    let openmetrics = ok("Content-Type: application/openmetrics-text; version=1.0.0\r\n", [PAGE, "# EOF\n"].concat());
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{PAGE}");
    let table = [
        ("length", Exporter::always(ok("", PAGE))),
        ("chunked", Exporter::always(chunked)),
        ("gzip", Exporter::always(ok("Content-Encoding: gzip\r\n", gzip(PAGE.as_bytes())))),
        ("until close", Exporter::new(move |_| vec![Act::Send(until_close.clone().into()), Act::Close])),
        ("openmetrics", Exporter::always(openmetrics)),
        ("no newline at the end", Exporter::always(ok("", PAGE.trim_end()))),
    ];
    for (name, exporter) in table {
        let rig = Rig::start(&settings([exporter.url()]));
        let batch = batch(&rig).await;
        let values: Vec<_> =
            batch.samples.iter().map(|sample| sample.reading.as_ref().map(|reading| reading.value)).collect();
        assert_eq!(values, [Ok(37.0)], "{name}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_last_line_without_newline_is_not_believed_where_the_body_ends_with_its_connection() {
    // It may be the first half of 37.5, or of 370.
    let cut = format!("HTTP/1.1 200 OK\r\n\r\n{PAGE}{}", PAGE.trim_end());
    let exporter = Exporter::new(move |_| vec![Act::Send(cut.clone().into()), Act::Close]);
    let rig = Rig::start(&settings([exporter.url()]));
    let batch = batch(&rig).await;
    let known: Vec<_> = batch.samples.iter().map(|sample| sample.reading.is_ok()).collect();
    assert_eq!(known, [true, false]);
    rig.stop().await;
}

#[tokio::test]
async fn a_large_page_is_read_too() {
    let filler = "# filler, filler, filler, filler, filler, filler, filler, filler, filler, filler\n";
    let page = [filler.repeat(8000).as_str(), PAGE].concat();
    let length = page.len() as u64;
    let exporter = Exporter::always(ok("", page));
    let config = config::Scrape { page_bytes: config::Bytes(16 << 20), ..settings([exporter.url()]) };
    let rig = Rig::start(&config);
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    assert_eq!((tracked.status.bytes, tracked.status.samples), (length, 1));
    rig.stop().await;
}

#[tokio::test]
async fn the_request_asks_for_what_can_be_read_and_the_connection_is_kept() {
    let exporter = Exporter::always(ok("", PAGE));
    let rig = Rig::start(&settings([exporter.url()]));
    rig.until(|snapshot| snapshot.totals.successes >= 3).await;
    let head = exporter.heads()[0].to_ascii_lowercase();
    for line in [
        "get /metrics http/1.1\r\n",
        "\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,",
        "\r\naccept-encoding: gzip\r\n",
        "\r\nuser-agent: tidegate/",
        "\r\nx-prometheus-scrape-timeout-seconds: 60\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head:?}");
    }
    assert!(!head.contains("authorization"));
    assert_eq!(exporter.connections(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_the_request_costs_no_scrape() {
    let answer = ok("", PAGE);
    let exporter =
        Exporter::new(
            move |request| {
                if request.on_connection == 0 { vec![Act::Send(answer.clone())] } else { vec![Act::Close] }
            },
        );
    let rig = Rig::start(&settings([exporter.url()]));
    let snapshot = rig.until(|snapshot| snapshot.totals.successes >= 4).await;
    assert_eq!(snapshot.totals.failures.len(), 0, "{:?}", snapshot.totals.failures);
    rig.stop().await;
}

#[tokio::test]
async fn a_batch_is_stamped_when_the_answer_began_not_when_it_ended() {
    const BEFORE: Duration = Duration::from_millis(300);
    const WITHIN: Duration = Duration::from_millis(1500);
    let (head, tail) = PAGE.split_at(20);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", PAGE.len());
    let exporter = Exporter::new(move |_| {
        vec![Act::Wait(BEFORE), Act::Send(head.clone().into()), Act::Wait(WITHIN), Act::Send(tail.into())]
    });
    let rig = Rig::start(&settings([exporter.url()]));
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    let (status, measured) = (&tracked.status, tracked.batch.as_ref().unwrap().measured);
    let before = measured.duration_since(status.last_attempt.unwrap());
    let after = status.last_success.unwrap().duration_since(measured);
    assert!(before >= SignedDuration::try_from(BEFORE).unwrap(), "{before:?}");
    // A busy machine may take a second to see the head.
    assert!(after >= SignedDuration::from_millis(500), "{after:?}");
    rig.stop().await;
}

#[tokio::test]
async fn timestamps_of_a_page_count_only_where_the_setting_says_so_and_never_lie_in_the_future() {
    let an_hour_ago = (Clock::start().now() - Duration::from_hours(1)).as_millisecond();
    let soon = (Clock::start().now() + Duration::from_secs(3)).as_millisecond();
    let in_an_hour = (Clock::start().now() + Duration::from_hours(1)).as_millisecond();
    let line = PAGE.trim_end();
    let page = format!(
        "{line} {an_hour_ago}\n{} {soon}\n{}\n{} {in_an_hour}\n",
        line.replace("GPU-1", "GPU-2"),
        line.replace("GPU-1", "GPU-3"),
        line.replace("GPU-1", "GPU-4"),
    );
    for honored in [false, true] {
        let exporter = Exporter::always(ok("", &page));
        let rig = Rig::start(&with_access(exporter.url(), Access { honor_timestamps: honored, ..Access::default() }));
        let batch = batch(&rig).await;
        let times: Vec<_> = batch.samples.iter().flat_map(|sample| &sample.reading).map(|known| known.at).collect();
        assert!(age(batch.measured) < SignedDuration::from_secs(60));
        if honored {
            let old = Timestamp::from_millisecond(an_hour_ago).unwrap();
            assert_eq!(times, [old, batch.measured, batch.measured]);
            let own = [(&0, &old), (&1, &batch.measured), (&3, &batch.measured)];
            assert_eq!(batch.sample_times.iter().collect::<Vec<_>>(), own);
            let ahead = &batch.samples[3].reading;
            assert!(matches!(ahead, Err(Unknown::ClockAhead { .. })), "nobody knows how old it is: {ahead:?}");
        } else {
            assert_eq!(times, [batch.measured; 4]);
            assert!(batch.sample_times.is_empty());
        }
        rig.stop().await;
    }
}
