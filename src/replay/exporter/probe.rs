//! One pod's scrapes: its GPU exporter's sample and its own metrics page, both with holes.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::{
    model::Exporter,
    random::Random,
    serving::{Ledger, Page, Rates, Replica},
};
use crate::signal::{Signal, Work};

/// What is known of one pod from outside.
#[derive(Debug, Clone)]
pub struct Probe {
    /// When the next scrape is.
    scrape: f64,
    /// The integral at the beginning of the window before the scrape, once it has begun.
    window: Option<f64>,
    utilization: Option<(f64, f64)>,
    page: Option<Seen>,
    /// The page before, for rates.
    counters: Option<(f64, Page)>,
    gpu_hole: bool,
    page_hole: bool,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: f64,
    page: Page,
    /// Tokens per second since the page before, if there was one.
    rates: Option<PageRates>,
}

#[derive(Debug, Clone, Copy)]
struct PageRates {
    prompt_tokens: f64,
    generated_tokens: f64,
    finished: f64,
}

/// Which signals the pods offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signals {
    /// Utilization, and the inference server's own page.
    #[default]
    Queue,
    /// Utilization alone.
    Utilization,
}

impl Probe {
    /// Scrapes begin at some moment of the interval after `now`, but not before a whole window has been measured.
    #[must_use]
    pub fn new(now: f64, exporter: &Exporter, random: &mut Random) -> Self {
        let phase = random.unit() * exporter.interval_seconds;
        let scrape = now + phase.max(exporter.window_seconds);
        Self { scrape, window: None, utilization: None, page: None, counters: None, gpu_hole: false, page_hole: false }
    }

    /// When [`look`](Self::look) has something to do.
    #[must_use]
    pub fn next_event(&self, exporter: &Exporter) -> f64 {
        if self.window.is_some() { self.scrape } else { self.scrape - exporter.window_seconds }
    }

    /// Opens the window or takes the sample that is due at `now`. True if it was the sample.
    pub fn look(
        &mut self,
        now: f64,
        replica: &mut Replica,
        exporter: &Exporter,
        rates: &Rates,
        random: &mut Random,
        ledger: &mut impl Ledger,
    ) -> bool {
        let Some(before) = self.window.take() else {
            self.window = Some(replica.busy(now, rates));
            return false;
        };
        let page = replica.page(now, rates, ledger);
        let mean = (page.busy - before) / exporter.window_seconds;
        self.scrape += exporter.interval_seconds;
        self.gpu_hole = hole(self.gpu_hole, exporter, random);
        self.page_hole = hole(self.page_hole, exporter, random);
        let noise = if mean > 0.0 { random.normal() * exporter.noise_points } else { 0.0 };
        if !self.gpu_hole {
            // Exporters report whole percents.
            self.utilization = Some((now, (mean + noise).round().clamp(0.0, 100.0)));
        }
        if !self.page_hole {
            let rates = self.counters.map(|(at, earlier)| {
                let span = (now - at).max(1e-9);
                PageRates {
                    prompt_tokens: (page.prompt_tokens - earlier.prompt_tokens) / span,
                    generated_tokens: (page.generated_tokens - earlier.generated_tokens) / span,
                    finished: (page.finished - earlier.finished) as f64 / span,
                }
            });
            self.counters = Some((now, page));
            self.page = Some(Seen { at: now, page, rates });
        }
        true
    }

    /// What a metrics adapter would say of the pod at `now`.
    #[must_use]
    pub fn work(
        &self,
        now: f64,
        exporter: &Exporter,
        signals: Signals,
        words: &Words,
        time: impl Fn(f64) -> Timestamp,
    ) -> Work {
        let signal = |sample: Option<(f64, f64)>| match sample {
            None => Signal::Unknown(Arc::clone(&words.not_yet)),
            Some((at, _)) if now - at > exporter.max_age_seconds => Signal::Unknown(Arc::clone(&words.stale)),
            Some((at, value)) => Signal::Known { value, at: time(at) },
        };
        let utilization = signal(self.utilization);
        if signals == Signals::Utilization {
            return Work { utilization, ..Work::default() };
        }
        let of = |field: fn(&Page) -> f64| signal(self.page.map(|seen| (seen.at, field(&seen.page))));
        let rate = |field: fn(PageRates) -> f64| signal(self.page.and_then(|seen| Some((seen.at, field(seen.rates?)))));
        Work {
            utilization,
            running: of(|page| f64::from(page.running)),
            waiting: of(|page| f64::from(page.waiting)),
            kv_cache: of(|page| page.kv_cache),
            prompt_tokens: rate(|rates| rates.prompt_tokens),
            generated_tokens: rate(|rates| rates.generated_tokens),
            finished: rate(|rates| rates.finished),
        }
    }
}

/// Whether the next sample is in a hole: a chain of two states with the stated share and mean length.
fn hole(inside: bool, exporter: &Exporter, random: &mut Random) -> bool {
    let leave = 1.0 / exporter.hole_samples.max(1.0);
    let share = exporter.hole_share.clamp(0.0, 0.99);
    let enter = leave * share / (1.0 - share);
    if inside { random.unit() >= leave } else { random.unit() < enter }
}

/// Reasons for unknown values, made once.
#[derive(Debug, Clone)]
pub struct Words {
    not_yet: Arc<str>,
    stale: Arc<str>,
}

impl Words {
    /// The words for this exporter.
    #[must_use]
    pub fn new(exporter: &Exporter) -> Self {
        Self {
            not_yet: "not measured since the pod became ready".into(),
            stale: format!("the newest sample is older than maxAge {}s", exporter.max_age_seconds).into(),
        }
    }
}
