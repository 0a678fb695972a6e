//! Colour, where the output is a terminal.

use std::fmt::Display;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    on: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Below or at the target.
    Calm,
    /// Above the target.
    Busy,
    /// Far above it, or broken.
    Alarm,
    /// Unknown.
    Unknown,
    /// Less important.
    Faint,
}

impl Paint {
    pub(super) fn new(on: bool) -> Self {
        Self { on }
    }

    pub(super) fn tone(self, tone: Tone, text: impl Display) -> String {
        let code = match tone {
            Tone::Calm => 32,
            Tone::Busy => 33,
            Tone::Alarm => 31,
            Tone::Unknown => 35,
            Tone::Faint => 2,
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// The tone of a utilization, by how far it is from the target.
pub(super) fn tone_of(percent: f64, target: f64) -> Tone {
    match percent / target {
        ratio if ratio > 1.6 => Tone::Alarm,
        ratio if ratio > 1.1 => Tone::Busy,
        _ => Tone::Calm,
    }
}
