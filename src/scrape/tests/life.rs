//! Targets come, fail, recover and leave; ticks are missed and counted; scrapes stay within their number.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use super::{
    exporter::{Act, Exporter, ok},
    *,
};

fn id(exporter: &Exporter) -> TargetId {
    TargetId(exporter.url().into())
}

#[tokio::test]
async fn a_dead_target_s_batch_ages_while_the_others_live() {
    let (dying, living) = (Exporter::always(ok("", PAGE)), Exporter::always(ok("", PAGE)));
    let (dead, live) = (id(&dying), id(&living));
    let rig = Rig::start(&settings([dying.url(), living.url()]));
    rig.until(|snapshot| snapshot.batches().count() == 2).await;
    drop(dying);
    let failing = rig.until(|snapshot| snapshot.targets[&dead].status.last_error.is_some()).await;
    let last = failing.targets[&dead].batch.clone().expect("the last page is kept");
    let later = rig
        .until(|snapshot| {
            snapshot.targets[&dead].status.failures >= 3
                && snapshot.targets[&live].batch.as_ref().unwrap().measured
                    > failing.targets[&live].batch.as_ref().unwrap().measured
        })
        .await;
    let kept = later.targets[&dead].batch.as_ref().unwrap();
    assert!(Arc::ptr_eq(kept, &last), "neither renewed nor dropped");
    assert_eq!(later.targets[&dead].status.last_error.as_deref(), Some("connection refused"));
    assert_eq!(later.targets[&live].status.failures, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_target_that_recovers_loses_its_error_and_keeps_its_count() {
    let broken = Arc::new(AtomicBool::new(true));
    let exporter = Exporter::new({
        let broken = Arc::clone(&broken);
        move |_| {
            let bad = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec();
            vec![Act::Send(if broken.load(Ordering::SeqCst) { bad } else { ok("", PAGE) })]
        }
    });
    let rig = Rig::start(&settings([exporter.url()]));
    rig.target_until(&exporter.url(), |tracked| tracked.status.failures >= 2).await;
    broken.store(false, Ordering::SeqCst);
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    assert!(tracked.status.last_error.is_none() && tracked.status.failures >= 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_target_that_leaves_is_forgotten_with_samples_status_and_connection() {
    let (leaving, staying) = (Exporter::always(ok("", PAGE)), Exporter::always(ok("", PAGE)));
    let rig = Rig::start(&settings([leaving.url(), staying.url()]));
    rig.until(|snapshot| snapshot.batches().count() == 2).await;
    let before = id(&leaving);

    let alone = Arc::new(targets(&settings([staying.url()]), &View::default()));
    rig.set.send(alone).unwrap();
    let snapshot = rig.until(|snapshot| snapshot.targets.len() == 1).await;
    assert!(!snapshot.targets.contains_key(&before));
    assert!(snapshot.targets[&id(&staying)].batch.is_some());

    // At most the request that was under way can still come.
    let asked = leaving.requests();
    let successes = snapshot.totals.successes;
    let later = rig.until(|snapshot| snapshot.totals.successes >= successes + 5).await;
    assert!(leaving.requests() <= asked + 1);
    assert!(!later.targets.contains_key(&before), "a scrape that was under way brings nothing back");

    // Its connection is closed soon after; the other one's is kept.
    rig.until(|_| leaving.open() == 0).await;
    assert_eq!((staying.open(), staying.connections()), (1, 1));

    rig.set.send(Arc::new(targets(&settings([leaving.url(), staying.url()]), &View::default()))).unwrap();
    let back = rig.until(|snapshot| snapshot.targets.contains_key(&before)).await;
    let status = &back.targets[&before].status;
    assert!(
        status.last_success.is_none_or(|time| time >= snapshot.targets[&id(&staying)].batch.as_ref().unwrap().measured)
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_scrape_under_way_when_its_target_leaves_brings_nothing_back() {
    let store = Store::new();
    let set = targets(&settings(["http://a/".into()]), &View::default());
    let target = set.targets.values().next().unwrap();
    let span = store::Span { start: Clock::start().now(), duration: Duration::ZERO };
    let ticket = store.track(target);
    store.forget(&target.id);
    store.failed(&ticket, span, &ScrapeError::ConnectionRefused);
    assert!(store.snapshot().targets.is_empty());
    // Nor does it write about the one that came after it under the same name.
    let _again = store.track(target);
    store.failed(&ticket, span, &ScrapeError::ConnectionRefused);
    assert_eq!(store.snapshot().targets[&target.id].status.failures, 0);
    assert!(store.snapshot().totals.failures.is_empty());
}

#[tokio::test]
async fn a_target_whose_address_changes_keeps_its_batch() {
    let (first, second) = (Exporter::always(ok("", PAGE)), Exporter::always(ok("", PAGE)));
    let mut set = targets(&settings([first.url()]), &View::default());
    let rig = Rig::start(&settings([first.url()]));
    rig.until(|snapshot| snapshot.batches().count() == 1).await;
    let target = set.targets.get_mut(&id(&first)).unwrap();
    *target = Arc::new(Target { url: second.url().parse().unwrap(), ..(**target).clone() });
    rig.set.send(Arc::new(set)).unwrap();
    let moved = rig.until(|snapshot| snapshot.targets[&id(&first)].target.url.as_str() == second.url()).await;
    assert!(moved.targets[&id(&first)].batch.is_some());
    rig.until(|_| second.requests() > 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn ticks_that_pass_during_a_scrape_are_missed_and_counted_never_made_up_for() {
    const INTERVALS: u32 = 6;
    let exporter = Exporter::new(|request| {
        let wait = if request.number == 0 { Duration::from_millis(40) * INTERVALS } else { Duration::ZERO };
        vec![Act::Wait(wait), Act::Send(ok("", PAGE))]
    });
    let rig = Rig::start(&settings([exporter.url()]));
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.status.missed > 0).await;
    assert!(tracked.status.missed >= u64::from(INTERVALS) - 1, "{}", tracked.status.missed);
    let first = tracked.batch.as_ref().unwrap().measured;
    let snapshot = rig.until(|snapshot| snapshot.totals.successes >= 4).await;
    assert_eq!(snapshot.totals.missed, snapshot.targets[&id(&exporter)].status.missed);
    // Three more scrapes, two whole intervals between them at least.
    let last = snapshot.batches().next().unwrap().measured;
    assert!(last.duration_since(first) >= jiff::SignedDuration::from_millis(75), "{:?}", last.duration_since(first));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_more_scrapes_than_allowed_are_under_way_at_once() {
    const ALLOWED: usize = 3;
    /// How many requests are held, how many were at most, and how many may go.
    #[derive(Default)]
    struct Gate {
        held: usize,
        most: usize,
        free: usize,
    }
    let gate = Arc::new((Mutex::new(Gate::default()), Condvar::new()));
    let exporters: Vec<Exporter> = (0..12)
        .map(|_| {
            let gate = Arc::clone(&gate);
            Exporter::new(move |_| {
                let (state, turn) = &*gate;
                let mut state = state.lock();
                state.held += 1;
                state.most = state.most.max(state.held);
                turn.wait_while(&mut state, |state| state.free == 0);
                state.free -= 1;
                state.held -= 1;
                vec![Act::Send(ok("", PAGE))]
            })
        })
        .collect();
    let config = config::Scrape { concurrency: ALLOWED, ..settings(exporters.iter().map(Exporter::url)) };
    let rig = Rig::start(&config);
    for round in 1..=8_u64 {
        // All places are taken, whoever waits for one.
        let full = async {
            while gate.0.lock().held < ALLOWED {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, full).await.expect("all places are taken");
        gate.0.lock().free += ALLOWED;
        gate.1.notify_all();
        rig.until(|snapshot| snapshot.totals.successes >= round * ALLOWED as u64).await;
    }
    assert_eq!(gate.0.lock().most, ALLOWED);
    gate.0.lock().free = usize::MAX;
    gate.1.notify_all();
    // Each of them had its turn.
    rig.until(|snapshot| snapshot.batches().count() == exporters.len()).await;
    rig.stop().await;
}

#[tokio::test]
async fn shutdown_ends_every_task_at_once_also_those_that_wait() {
    let answered = Arc::new(AtomicUsize::new(0));
    let hanging = Exporter::new({
        let answered = Arc::clone(&answered);
        move |_| {
            answered.fetch_add(1, Ordering::SeqCst);
            vec![Act::Hang]
        }
    });
    let config = config::Scrape { timeout: config::Duration(PATIENCE * 10), ..settings([hanging.url()]) };
    let rig = Rig::start(&config);
    let store = Arc::clone(&rig.store);
    while answered.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(PATIENCE, rig.stop()).await.expect("does not wait for the exporter");
    assert_eq!(Arc::strong_count(&store), 1, "no task holds the store");
}

#[tokio::test]
async fn what_is_refused_can_be_read_beside_the_targets() {
    let rig = Rig::start(&settings(["ftp://a/".into()]));
    let snapshot = rig.until(|snapshot| !snapshot.refusals.is_empty()).await;
    assert_eq!(
        snapshot.refusals[0].to_string(),
        "scrape.urls[0] ftp://a/: expected the scheme http or https, got \"ftp\""
    );
    rig.stop().await;
}
