//! The way home: a replica that sits in a later pool while an earlier one has had room for the pool's `returnAfter`.
//!
//! One at a time, and never below what demand needs: one replica more is asked for, the scheduler puts it into the earlier
//! pool, it becomes Ready and takes its share, and then the number goes back, of which the later pool's replica goes by its
//! deletion cost. Off unless the policy says `returnAfter`.
//!
//! ```text
//! room for returnAfter ─▶ asked (n+1) ─▶ there ─▶ Ready at home ─▶ settled ─▶ released (n) ─▶ one less in the later pool
//!                              │           │ no place, elsewhere, too long       │ another one went
//!                              └───────────┴──────────▶ given up (n) ◀───────────┘ twice as long until the next try
//! ```
//!
//! Nothing begins while anything is unknown, while pods come or go (a rollout, too), or at the policy's `max`: the move needs
//! one more for a while. A move that is under way is left alone while something is unknown, and ends as soon as demand asks
//! for more: then the replica is needed where it is.

use serde::{Deserialize, Serialize};

/// An advice that nobody has followed for so long is taken back, seconds.
const ASKED: f64 = 300.0;
/// A replica that has no node after so long will not get the place that was counted on, seconds.
const PLACED: f64 = 60.0;
/// From the new replica's Ready to the release, seconds: requests reach it, and the deletion costs stand by then.
const SETTLED: f64 = 10.0;
/// Longest pause after moves that failed, seconds.
const LONGEST_PAUSE: f64 = 6.0 * 3600.0;
/// Doublings that reach it from any `returnAfter`.
const DOUBLINGS: u32 = 20;

/// What is remembered of moves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drift {
    /// Since when a replica could have moved, without interruption; seconds since the epoch, as all times here.
    room_since: Option<f64>,
    under_way: Option<Move>,
    /// Moves that failed in a row.
    failed: u32,
    /// When the last of them ended.
    failed_at: f64,
}

/// A move under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Move {
    /// Replicas that were asked for before it, and will be after it.
    replicas: u32,
    /// The pool that it leaves, and how many were Ready in it.
    away: (usize, u32),
    /// The pool that it goes to, and how many were Ready in it.
    home: (usize, u32),
    stage: Stage,
    /// Since when.
    since: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stage {
    /// One more is asked for.
    Asked,
    /// It is there, and not Ready.
    Coming,
    /// It is Ready at home.
    Settling,
    /// One less is asked for.
    Released,
    /// Likewise, because it did not work.
    GivenUp,
}

/// One pool, as far as moves go by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// After so many seconds of room in an earlier pool a replica leaves it; `None`: never.
    pub return_after: Option<f64>,
    /// Replicas in it that are Ready.
    pub ready: u32,
    /// Replicas in it that are not.
    pub starting: u32,
    /// How many more it can take on nodes that are there.
    pub free: u32,
    /// Seconds until nine of ten replicas are Ready there.
    pub ready_seconds: f64,
}

/// A service at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Replicas that are asked for.
    pub current: u32,
    /// Most that may be.
    pub max: u32,
    /// Replicas that demand wants, by what is known of it.
    pub wanted: u32,
    /// Every ready pod is known, and none is saturated: nothing less is enough to move by.
    pub known: bool,
    /// Pods without a node.
    pub pending: u32,
    /// All pods, in pools or not.
    pub pods: u32,
    /// Age of the oldest pod that is not Ready, seconds; 0 without one.
    pub unready_seconds: f64,
    /// The pools, the one that is filled first at the front.
    pub pools: Vec<Place>,
}

/// What a move asks for at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asks {
    /// So many replicas.
    pub replicas: u32,
    /// From this pool to that one.
    pub between: (usize, usize),
    /// What it waits for.
    pub phase: Phase,
}

/// Where a move stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// One more is asked for, and comes.
    Coming,
    /// It is Ready.
    Ready,
    /// The one in the later pool goes.
    Released,
    /// It could not be placed, came elsewhere, or did not become Ready: it goes again.
    GivenUp,
    /// It would begin, and `max` is reached.
    AtMax,
}

impl Case {
    /// The last pool with a replica that may leave it, and the first before it with room.
    fn way(&self) -> Option<(usize, usize)> {
        let leaves = |place: &Place| place.return_after.is_some() && place.ready > 0;
        self.pools.iter().enumerate().rev().filter(|(_, place)| leaves(place)).find_map(|(away, _)| {
            let home = self.pools[..away].iter().position(|place| place.free > 0)?;
            Some((away, home))
        })
    }

    /// All replicas are there and Ready, and nobody is going.
    fn calm(&self) -> bool {
        let ready: u32 = self.pools.iter().map(|place| place.ready).sum();
        self.pending == 0 && self.pods == self.current && ready == self.current
    }

    /// A replica comes that an earlier pool has, or has room for, while a later one could give one up: whoever asked for it,
    /// it is worth waiting for before one is removed, because one that is not Ready would go first. Not for longer than it
    /// should take.
    #[must_use]
    pub fn one_comes_home(&self) -> bool {
        let starting: u32 = self.pools.iter().map(|place| place.starting).sum();
        let leaves = |place: &Place| place.return_after.is_some() && place.ready > 0;
        let Some(away) = self.pools.iter().rposition(leaves) else { return false };
        let before = &self.pools[..away];
        let longest = before.iter().map(|place| place.ready_seconds).fold(0.0, f64::max);
        let may_come = self.unready_seconds <= PLACED + 2.0 * longest;
        self.pods == self.current
            && may_come
            && match (self.pending, starting) {
                (1, 0) => before.iter().any(|place| place.free > 0),
                (0, 1) => before.iter().any(|place| place.starting > 0),
                _ => false,
            }
    }
}

impl Drift {
    /// The next step of a move under way; `None` if there is none.
    pub fn go_on(&mut self, case: &Case, now: f64) -> Option<Asks> {
        let mut this = self.under_way?;
        let surged = this.replicas + 1;
        // Demand needs it where it is, or somebody else has moved: it is a replica like the others now.
        if case.wanted > this.replicas || (case.current != surged && case.current != this.replicas) {
            self.ended();
            return None;
        }
        if !case.known {
            // Nothing moves, and nothing is taken back.
            return Some(Asks { replicas: case.current, between: this.between(), phase: this.phase() });
        }
        let passed = now - this.since;
        let next = match this.stage {
            Stage::Asked if case.current == surged => Stage::Coming,
            Stage::Asked if passed >= ASKED => Stage::GivenUp,
            Stage::Coming | Stage::Settling if case.current == this.replicas => Stage::GivenUp,
            Stage::Coming if this.is_home(case) => Stage::Settling,
            Stage::Coming if this.is_lost(case, passed) => Stage::GivenUp,
            Stage::Settling if !this.is_home(case) => Stage::Coming,
            Stage::Settling if passed >= SETTLED => Stage::Released,
            Stage::Released | Stage::GivenUp if case.current == this.replicas => {
                if !case.calm() {
                    return Some(this.asks());
                }
                // As many as before in the later pool: it was given up, or deletion costs are not heard and another one went.
                let came = case.pools[this.away.0].ready < this.away.1;
                self.failed = if came { 0 } else { self.failed.saturating_add(1) };
                self.failed_at = now;
                self.ended();
                return None;
            }
            stays => stays,
        };
        if next != this.stage {
            this.stage = next;
            this.since = now;
        }
        self.under_way = Some(this);
        Some(this.asks())
    }

    /// Whether a move begins. Asked only while nothing else moves.
    pub fn begin(&mut self, case: &Case, now: f64) -> Option<Asks> {
        let may = case.known && case.wanted <= case.current && case.calm();
        let Some((away, home)) = case.way().filter(|_| may) else {
            self.room_since = None;
            return None;
        };
        let return_after = case.pools[away].return_after?;
        let since = *self.room_since.get_or_insert(now);
        let pause = (return_after * f64::from(1_u32 << self.failed.min(DOUBLINGS))).min(LONGEST_PAUSE);
        if now - since < return_after || (self.failed > 0 && now - self.failed_at < pause) {
            return None;
        }
        if case.current >= case.max {
            return Some(Asks { replicas: case.current, between: (away, home), phase: Phase::AtMax });
        }
        let ready = |pool: usize| (pool, case.pools[pool].ready);
        let new =
            Move { replicas: case.current, away: ready(away), home: ready(home), stage: Stage::Asked, since: now };
        self.under_way = Some(new);
        Some(new.asks())
    }

    /// Nothing is known of the cluster: room that was seen before does not count.
    pub fn interrupt(&mut self) {
        self.room_since = None;
    }

    fn ended(&mut self) {
        self.under_way = None;
        self.room_since = None;
    }
}

impl Move {
    const fn between(&self) -> (usize, usize) {
        (self.away.0, self.home.0)
    }

    const fn phase(&self) -> Phase {
        match self.stage {
            Stage::Asked | Stage::Coming => Phase::Coming,
            Stage::Settling => Phase::Ready,
            Stage::Released => Phase::Released,
            Stage::GivenUp => Phase::GivenUp,
        }
    }

    const fn asks(&self) -> Asks {
        let replicas = match self.stage {
            Stage::Asked | Stage::Coming | Stage::Settling => self.replicas + 1,
            Stage::Released | Stage::GivenUp => self.replicas,
        };
        Asks { replicas, between: self.between(), phase: self.phase() }
    }

    /// Everybody is Ready, and there is one more at home.
    fn is_home(&self, case: &Case) -> bool {
        case.calm() && case.pools[self.home.0].ready > self.home.1
    }

    /// The new one has no node, came to another pool, or does not become Ready.
    fn is_lost(&self, case: &Case, passed: f64) -> bool {
        let elsewhere = (0..case.pools.len()).any(|pool| pool >= self.away.0 && case.pools[pool].starting > 0);
        let came_elsewhere = case.calm() && case.pools[self.home.0].ready <= self.home.1;
        let unplaced = case.pending > 0 && passed >= PLACED;
        let hangs = passed >= PLACED + 2.0 * case.pools[self.home.0].ready_seconds;
        elsewhere || came_elsewhere || unplaced || hangs
    }
}

#[cfg(test)]
mod tests;
