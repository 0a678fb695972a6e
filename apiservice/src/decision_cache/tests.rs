use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{CAPACITY, Clock, DecisionCache, Key, LookupError, PENDING, PENDING_OF_ONE, TTL};

/// A clock that only goes on when it is told to.
#[derive(Clone, Default)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn clock(&self) -> Clock {
        let (start, passed) = (Instant::now(), Arc::clone(&self.0));
        Clock(Arc::new(move || start + Duration::from_millis(passed.load(Ordering::Relaxed))))
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }
}

fn cache<V: Clone + Send + Sync + 'static>() -> (DecisionCache<V>, Hands) {
    let hands = Hands::default();
    (DecisionCache::new(hands.clock()), hands)
}

fn key(number: usize) -> Key {
    Key::of(&number.to_be_bytes())
}

#[tokio::test]
async fn an_answer_lives_for_its_time_and_no_longer() {
    let (cache, hands) = cache();
    assert_eq!(cache.get(key(1), || async { Ok("first") }).await, Ok("first"));
    hands.advance(TTL.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(cache.get(key(1), || async { Ok("second") }).await, Ok("first"));
    hands.advance(Duration::from_millis(1));
    assert_eq!(cache.get(key(1), || async { Ok("second") }).await, Ok("second"));
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_wait_and_not_kept() {
    let (cache, _) = cache::<()>();
    let asked = Arc::new(AtomicUsize::new(0));
    let lookup = || {
        let asked = Arc::clone(&asked);
        async move {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(LookupError::failed(&"gone"))
        }
    };
    let (one, two) = tokio::join!(cache.get(key(1), lookup), cache.get(key(1), lookup));
    assert_eq!(one, Err(LookupError::failed(&"gone")));
    assert_eq!(one, two);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(cache.get(key(1), || async { Ok(()) }).await, Ok(()));
}

#[tokio::test]
async fn a_lookup_ends_after_its_time() {
    let (mut cache, _) = cache::<()>();
    cache.lookup_timeout = Duration::from_millis(20);
    assert_eq!(cache.get(key(1), std::future::pending).await, Err(LookupError::TimedOut));
    assert_eq!(cache.get(key(1), || async { Ok(()) }).await, Ok(()));
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_take_the_answer_from_the_others() {
    let (cache, _) = cache();
    let release = Arc::new(Notify::new());
    let lookup = || {
        let release = Arc::clone(&release);
        async move {
            release.notified().await;
            Ok("answer")
        }
    };
    assert!(timeout(Duration::from_millis(20), cache.get(key(1), lookup)).await.is_err());
    release.notify_one();
    assert_eq!(cache.get(key(1), || async { Ok("asked again") }).await, Ok("answer"));
}

#[tokio::test]
async fn a_lookup_that_panics_is_a_failure_and_can_be_tried_again() {
    let (cache, _) = cache::<()>();
    let failed = cache.get(key(1), || async { panic!("on purpose") }).await;
    assert!(matches!(failed, Err(LookupError::Failed(_))), "{failed:?}");
    assert_eq!(cache.get(key(1), || async { Ok(()) }).await, Ok(()));
}

#[tokio::test]
async fn the_oldest_answers_go_when_there_are_too_many() {
    let (cache, hands) = cache();
    for number in 0..=CAPACITY {
        cache.get(key(number), || async { Ok("kept") }).await.unwrap();
    }
    assert_eq!(cache.slots.lock().by_key.len(), CAPACITY);
    assert_eq!(cache.get(key(CAPACITY), || async { Ok("new") }).await, Ok("kept"));
    assert_eq!(cache.get(key(0), || async { Ok("new") }).await, Ok("new"));
    hands.advance(TTL);
    cache.get(key(1), || async { Ok("new") }).await.unwrap();
    assert_eq!(cache.slots.lock().by_key.len(), 1, "what expired leaves");
}

#[tokio::test]
async fn too_many_questions_under_way_are_refused() {
    let (mut cache, _) = cache::<()>();
    cache.lookup_timeout = Duration::from_secs(2);
    let cache = Arc::new(cache);
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..PENDING {
        let cache = Arc::clone(&cache);
        waiting.spawn(async move { cache.get(key(number), std::future::pending).await });
    }
    crate::testing::eventually("all are under way", || cache.slots.lock().pending == PENDING).await;
    assert_eq!(cache.get(key(PENDING), || async { Ok(()) }).await, Err(LookupError::Busy));
    while waiting.join_next().await.is_some() {}
    assert_eq!(cache.get(key(PENDING), || async { Ok(()) }).await, Ok(()));
}

#[test]
fn a_runtime_that_is_going_down_is_a_failure_and_nobody_waits_for_it() {
    let (answer, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _within = handle.enter();
        let (cache, _) = cache::<()>();
        let got = cache.get(key(1), || async { Ok(()) }).now_or_never();
        let _nobody_listens = answer.send((got, cache.slots.lock().pending));
    });
    let (got, pending) = answers.recv_timeout(Duration::from_mins(1)).expect("it does not hang");
    assert!(matches!(got, Some(Err(LookupError::Failed(_)))), "{got:?}");
    assert_eq!(pending, 0);
}

#[tokio::test]
async fn one_asker_cannot_keep_the_answers_from_the_others() {
    let (mut cache, _) = cache::<()>();
    cache.lookup_timeout = Duration::from_secs(2);
    let cache = Arc::new(cache);
    let [greedy, other] = [Key::of(b"greedy"), Key::of(b"other")];
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..PENDING_OF_ONE {
        let cache = Arc::clone(&cache);
        waiting.spawn(async move { cache.get_for(greedy, key(number), std::future::pending).await });
    }
    crate::testing::eventually("all are under way", || cache.slots.lock().pending == PENDING_OF_ONE).await;
    let next = key(PENDING_OF_ONE);
    assert_eq!(cache.get_for(greedy, next, || async { Ok(()) }).await, Err(LookupError::Busy));
    assert_eq!(cache.get_for(other, next, || async { Ok(()) }).await, Ok(()));
    while waiting.join_next().await.is_some() {}
    assert_eq!(cache.get_for(greedy, key(PENDING), || async { Ok(()) }).await, Ok(()));
    assert!(cache.slots.lock().pending_of.is_empty(), "nobody is remembered for longer than asked for");
}
