//! What can be wrong with an exporter. Each fault was seen in the field or follows from an exporter's source.

use jiff::Timestamp;

/// How a simulated exporter behaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Connections are refused and open ones are cut. The port stays reserved, and is listened on again afterwards.
    Dead,
    /// Accepts the request and never answers.
    HangBeforeHeaders,
    /// Sends headers and half of the page, then nothing.
    HangMidBody,
    /// Sends headers and half of the page, then closes the connection.
    CutShort,
    /// Sends page after page without an end, as fast as it is read.
    NeverEnds,
    /// Every GPU value reads like this.
    Values(OddValue),
    /// Pods and processes read 0 while their cards read 95: the exporter cannot map processes to pods.
    ZeroAttribution,
    /// The series of pods and processes are missing; those of devices are there.
    SeriesAbsent,
    /// Processes have memory series but no utilization series, as NVML leaves out those that were idle.
    UtilizationAbsent,
    /// 200 with a page of another program.
    Garbage,
    /// 500.
    InternalError,
    /// The page of the moment at which the fault was set, again and again, with this timestamp on each line.
    Frozen(Timestamp),
}

/// Values that are not utilizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddValue {
    /// `NaN`.
    NotANumber,
    /// `+Inf`.
    Infinite,
    /// `-50`.
    Negative,
    /// DCGM's int32 "not supported".
    BlankInt32,
    /// DCGM's fp64 "not supported".
    BlankFp64,
    /// DCGM's int64 "not supported".
    BlankInt64,
    /// 9.4e15: finite, and beyond what the HPA's arithmetic holds.
    Huge,
    /// 0.0004: finite and credible, and easily rounded to 0.
    Tiny,
    /// A word instead of a number.
    Text,
}

impl OddValue {
    /// All of them, for tables.
    pub const ALL: [Self; 9] = [
        Self::NotANumber,
        Self::Infinite,
        Self::Negative,
        Self::BlankInt32,
        Self::BlankFp64,
        Self::BlankInt64,
        Self::Huge,
        Self::Tiny,
        Self::Text,
    ];

    /// As it stands on the page.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotANumber => "NaN",
            Self::Infinite => "+Inf",
            Self::Negative => "-50",
            Self::BlankInt32 => "2147483634",
            Self::BlankFp64 => "140737488355330",
            Self::BlankInt64 => "9223372036854775794",
            Self::Huge => "9.4e15",
            Self::Tiny => "0.0004",
            Self::Text => "unsupported",
        }
    }
}
