use proptest::prelude::*;

use super::*;

const RETURN_AFTER: f64 = 600.0;

fn place(return_after: Option<f64>, ready: u32, free: u32) -> Place {
    Place { return_after, ready, starting: 0, free, ready_seconds: 60.0 }
}

/// One at home with room for one more, two in the cloud, all needed.
fn case() -> Case {
    let pools = vec![place(None, 1, 1), place(Some(RETURN_AFTER), 2, 0)];
    Case { current: 3, max: 4, wanted: 3, known: true, pending: 0, pods: 3, unready_seconds: 0.0, pools }
}

/// The service and what is done with it: a replica that is asked for takes the first free place and is Ready at the next
/// step, and the dearest goes first.
struct Service {
    drift: Drift,
    case: Case,
    now: f64,
}

const STEP: f64 = 5.0;

impl Service {
    fn new(case: Case) -> Self {
        Self { drift: Drift::default(), case, now: 1e9 }
    }

    fn look(&mut self) -> Option<Asks> {
        self.now += STEP;
        self.drift.go_on(&self.case, self.now).or_else(|| self.drift.begin(&self.case, self.now))
    }

    /// So many seconds in which nobody does anything.
    fn wait(&mut self, seconds: f64) -> Option<Asks> {
        let mut last = None;
        for _ in 0..(seconds / STEP) as u32 {
            last = self.look();
        }
        last
    }

    fn ask_for(&mut self, replicas: u32) {
        self.case.current = replicas;
    }

    fn comes(&mut self, pool: usize) {
        self.case.pods += 1;
        self.case.pools[pool].starting += 1;
        self.case.pools[pool].free = self.case.pools[pool].free.saturating_sub(1);
    }

    fn is_ready(&mut self, pool: usize) {
        self.case.pools[pool].starting -= 1;
        self.case.pools[pool].ready += 1;
    }

    fn goes(&mut self, pool: usize) {
        self.case.pods -= 1;
        self.case.pools[pool].ready -= 1;
    }
}

fn phase(asks: Option<Asks>) -> Option<(Phase, u32)> {
    asks.map(|asks| (asks.phase, asks.replicas))
}

/// Up to the moment at which one more is asked for.
fn asked() -> Service {
    let mut service = Service::new(case());
    assert_eq!(service.wait(RETURN_AFTER), None, "the room has to last");
    assert_eq!(phase(service.wait(2.0 * STEP)), Some((Phase::Coming, 4)));
    service
}

#[test]
fn one_is_asked_for_at_home_and_the_cloud_one_goes_only_once_it_is_ready() {
    let mut service = asked();
    service.ask_for(4);
    service.comes(0);
    assert_eq!(phase(service.wait(60.0)), Some((Phase::Coming, 4)));
    service.is_ready(0);
    assert_eq!(phase(service.look()), Some((Phase::Ready, 4)), "requests have to reach it");
    assert_eq!(phase(service.look()), Some((Phase::Ready, 4)), "which takes longer than a moment");
    assert_eq!(phase(service.wait(3.0 * STEP)), Some((Phase::Released, 3)));
    service.ask_for(3);
    service.goes(1);
    assert_eq!(service.look(), None);
    assert_eq!((service.case.pools[0].ready, service.case.pools[1].ready), (2, 1));
}

#[test]
fn nothing_moves_unless_the_policy_says_so_or_without_room_or_a_replica_away() {
    for pools in [
        vec![place(None, 1, 1), place(None, 2, 0)],
        vec![place(None, 1, 0), place(Some(RETURN_AFTER), 2, 5)],
        vec![place(None, 3, 1), place(Some(RETURN_AFTER), 0, 5)],
    ] {
        let mut service = Service::new(Case { pools, ..case() });
        assert_eq!(service.wait(10.0 * RETURN_AFTER), None, "{:?}", service.case.pools);
    }
}

#[test]
fn room_that_comes_and_goes_and_a_rollout_begin_the_wait_anew() {
    for disturb in [
        (|case: &mut Case| case.pools[0].free = 0) as fn(&mut Case),
        |case| case.known = false,
        |case| case.pods += 1,
        |case| case.pending = 1,
        |case| case.wanted = 4,
    ] {
        let mut service = Service::new(case());
        service.wait(RETURN_AFTER - 2.0 * STEP);
        let calm = service.case.clone();
        disturb(&mut service.case);
        assert_eq!(service.look(), None);
        service.case = calm;
        assert_eq!(service.wait(RETURN_AFTER), None);
        assert_eq!(phase(service.wait(2.0 * STEP)), Some((Phase::Coming, 4)));
    }
}

#[test]
fn at_max_nothing_moves_and_it_is_said() {
    let mut service = Service::new(Case { max: 3, ..case() });
    assert_eq!(phase(service.wait(2.0 * RETURN_AFTER)), Some((Phase::AtMax, 3)));
}

#[test]
fn r15_while_something_is_unknown_a_move_neither_goes_on_nor_back() {
    let mut service = asked();
    service.ask_for(4);
    service.comes(0);
    service.look();
    service.is_ready(0);
    service.look();
    service.case.known = false;
    assert_eq!(phase(service.wait(3600.0)), Some((Phase::Ready, 4)));
}

#[test]
fn r9_demand_that_needs_more_ends_a_move_although_something_is_unknown() {
    let mut service = asked();
    service.ask_for(4);
    service.comes(0);
    service.look();
    (service.case.known, service.case.wanted) = (false, 5);
    assert_eq!(service.look(), None, "what is known asks for more, and the ordinary way is free");
}

#[test]
fn demand_that_needs_it_ends_the_move_and_keeps_the_replica() {
    let mut service = asked();
    service.ask_for(4);
    service.comes(0);
    service.look();
    service.case.wanted = 4;
    assert_eq!(service.look(), None);
    service.is_ready(0);
    assert_eq!(service.wait(60.0), None, "four are needed, and four there are");
}

#[test]
fn a_replica_that_finds_no_place_comes_elsewhere_or_hangs_is_given_up() {
    type Happens = fn(&mut Service);
    let cases: [(&str, Happens, f64); 3] = [
        ("no place", |s| (s.case.pods, s.case.pending) = (4, 1), PLACED),
        ("another cloud node", |s| s.comes(1), 0.0),
        ("never Ready", |s| s.comes(0), PLACED + 120.0),
    ];
    for (what, happens, after) in cases {
        let mut service = asked();
        service.ask_for(4);
        happens(&mut service);
        service.look();
        assert_eq!(phase(service.wait(after + 2.0 * STEP)), Some((Phase::GivenUp, 3)), "{what}");
    }
}

#[test]
fn each_failure_doubles_the_pause_and_a_success_ends_it() {
    let mut service = Service::new(case());
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let start = service.now;
        while phase(service.look()) != Some((Phase::Coming, 4)) {}
        pauses.push(service.now - start);
        service.ask_for(4);
        (service.case.pods, service.case.pending) = (4, 1);
        service.wait(PLACED + 3.0 * STEP);
        service.ask_for(3);
        (service.case.pods, service.case.pending) = (3, 0);
        service.look();
    }
    let expected = [RETURN_AFTER, 2.0 * RETURN_AFTER, 4.0 * RETURN_AFTER, 8.0 * RETURN_AFTER];
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((expected - 3.0 * STEP..=expected + 3.0 * STEP).contains(pause), "{pauses:?}");
    }
}

#[test]
fn when_another_replica_than_the_cloud_one_has_gone_it_counts_as_a_failure() {
    let mut service = asked();
    service.ask_for(4);
    service.comes(0);
    service.look();
    service.is_ready(0);
    service.wait(4.0 * STEP);
    service.ask_for(3);
    service.goes(0);
    service.case.pools[0].free = 1;
    service.look();
    assert_eq!(service.wait(1.5 * RETURN_AFTER), None, "once as long was enough before");
    assert_eq!(phase(service.wait(0.6 * RETURN_AFTER)), Some((Phase::Coming, 4)));
}

#[test]
fn advice_that_nobody_follows_is_taken_back() {
    let mut service = asked();
    assert_eq!(phase(service.wait(ASKED - 2.0 * STEP)), Some((Phase::Coming, 4)));
    service.wait(4.0 * STEP);
    assert_eq!(service.look(), None);
}

#[test]
fn a_replica_on_its_way_home_is_worth_waiting_for_whoever_asked_for_it() {
    let mut coming = Case { current: 4, pods: 4, ..case() };
    coming.pools[0].starting = 1;
    assert!(coming.one_comes_home());
    coming.unready_seconds = PLACED + 121.0;
    assert!(!coming.one_comes_home(), "it hangs");
    coming.unready_seconds = 0.0;
    coming.pools[0].starting = 0;
    coming.pools[1].starting = 1;
    assert!(!coming.one_comes_home(), "it comes to the cloud");
    coming.pools[1].return_after = None;
    coming.pools[0].starting = 1;
    coming.pools[1].starting = 0;
    assert!(!coming.one_comes_home(), "nobody asked for moves");
}

proptest! {
    /// Whatever happens around it.
    #[test]
    fn never_less_than_demand_needs_never_more_than_one_beyond_what_was_there_and_never_above_max(
        steps in prop::collection::vec((0..8_usize, 0..4_u32), 1..200),
    ) {
        let mut service = Service::new(case());
        for (what, number) in steps {
            match what {
                0 => (service.case.known, service.case.wanted) = (number > 0, number.max(1)),
                1 => service.case.pools[0].free = number,
                2 if service.case.pods < service.case.current => service.comes(number as usize % 2),
                3 => {
                    for pool in 0..2 {
                        while service.case.pools[pool].starting > 0 {
                            service.is_ready(pool);
                        }
                    }
                }
                4 if service.case.pods > service.case.current => {
                    let pool = usize::from(service.case.pools[1].ready > 0);
                    if service.case.pools[pool].ready > 0 {
                        service.goes(pool);
                    }
                }
                _ => drop(service.wait(f64::from(number) * 150.0)),
            }
            if let Some(asks) = service.look() {
                let Case { current, max, wanted, known, .. } = service.case;
                prop_assert!(asks.replicas <= max.max(current), "{asks:?} {:?}", service.case);
                prop_assert!(asks.replicas.abs_diff(current) <= 1, "{asks:?} {:?}", service.case);
                prop_assert!(asks.replicas >= wanted, "{asks:?} {:?}", service.case);
                prop_assert!(known || asks.replicas == current, "{asks:?} {:?}", service.case);
                service.ask_for(asks.replicas);
            }
        }
    }

    #[test]
    fn while_room_lasts_all_come_home_one_by_one(away in 1..6_u32) {
        let pools = vec![place(None, 1, away), place(Some(RETURN_AFTER), away, 0)];
        let mut service = Service::new(Case {
            current: away + 1,
            max: away + 2,
            wanted: away + 1,
            known: true,
            pending: 0,
            pods: away + 1,
            unready_seconds: 0.0,
            pools,
        });
        let mut most = 0;
        for _ in 0..10_000 {
            if let Some(asks) = service.look() {
                service.ask_for(asks.replicas);
            }
            if service.case.pools[0].starting > 0 {
                service.is_ready(0);
            }
            if service.case.pods < service.case.current {
                service.comes(0);
            } else if service.case.pods > service.case.current {
                service.goes(1);
            }
            most = most.max(service.case.pods);
            prop_assert!(service.case.pools.iter().map(|place| place.ready).sum::<u32>() > away);
        }
        prop_assert_eq!(service.case.pools[1].ready, 0);
        prop_assert_eq!(most, away + 2);
    }
}
