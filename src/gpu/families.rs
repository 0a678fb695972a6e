//! The families that are read and served, the names they have on pages, and their units there.
//!
//! Names and units are those of ACK's gpu-exporter ("GPU monitoring 2.0") and of NVIDIA's dcgm-exporter, including the
//! spellings of its 4.9 release, which renamed families and changed their units. Left out on purpose:
//!
//! - `DCGM_CUSTOM_ILLEGAL_PROCESS_*`: processes in containers that see every GPU without having asked for one. Their
//!   load is nobody's share of a card, and adding it to a pod would scale a service for its neighbour's sake.
//! - `DCGM_CUSTOM_CONTAINER_CP_ALLOCATED`, `DCGM_CUSTOM_DEV_FB_ALLOCATED`: what was promised, not what is used; 0 in the
//!   first means "without limit".
//! - Clocks, energy, temperatures, errors and byte counters: no share of a card.

use super::Unit;

/// How a page writes a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// 0..100.
    Percent,
    /// 0..1, and the operator has said so.
    Ratio,
    /// 0..1 by the exporter's text, 0..100 by its table: values above 1 (by more than rounding) are percent, and beside
    /// them, on the same page, values up to 1 are unknown, because they may be either.
    RatioOrPercent,
    /// 0..1 since dcgm-exporter 4.9, but in older headers the same name is an alias of an integer percentage: one value
    /// with a decimal point makes it a ratio on that page, otherwise a value above 1 makes it a percentage, and a 1 on a
    /// page with neither is unknown.
    RatioOrInteger,
    /// 2^20 bytes.
    Mebibytes,
    /// Bytes.
    Bytes,
}

impl Scale {
    /// The unit inside Tidegate.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Percent | Self::Ratio | Self::RatioOrPercent | Self::RatioOrInteger => Unit::Percent,
            Self::Mebibytes | Self::Bytes => Unit::Mebibytes,
        }
    }

    /// What one of the page's units is in ours; of the undecided ones as a ratio.
    #[must_use]
    pub const fn factor(self) -> f64 {
        match self {
            Self::Percent | Self::Mebibytes => 1.0,
            Self::Ratio | Self::RatioOrPercent | Self::RatioOrInteger => 100.0,
            Self::Bytes => 1.0 / 1_048_576.0,
        }
    }
}

/// The family of which dcgm-exporter reports pods too, as the sum of their processes' last samples.
pub(super) const POD_SUMS: &str = "DCGM_FI_DEV_GPU_UTIL";

/// One built-in family: name, help, and its names on pages with their scales. The first name is heard where a page has
/// several.
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) sources: &'static [(&'static str, Scale)],
}

macro_rules! built_in {
    ($($name:literal $help:literal: $first:ident $(, $alias:literal $scale:ident)*;)*) => {
        &[$(BuiltIn {
            name: $name,
            help: $help,
            sources: &[($name, Scale::$first) $(, ($alias, Scale::$scale))*],
        },)*]
    };
}

/// All of them.
pub(super) static BUILT_IN: &[BuiltIn] = built_in![
    "DCGM_CUSTOM_PROCESS_SM_UTIL" "SM utilization of a process": Percent;
    "DCGM_CUSTOM_PROCESS_MEM_COPY_UTIL" "Memory copy utilization of a process": Percent;
    "DCGM_CUSTOM_PROCESS_ENCODE_UTIL" "Encoder utilization of a process": Percent;
    "DCGM_CUSTOM_PROCESS_DECODE_UTIL" "Decoder utilization of a process": Percent;
    "DCGM_CUSTOM_PROCESS_MEM_USED" "GPU memory that a process uses": Mebibytes;
    "DCGM_CUSTOM_CONTAINER_MEM_ALLOCATED" "GPU memory allocated to a container": Mebibytes;
    "DCGM_CUSTOM_DEV_FB_TOTAL" "Memory of the card, by ACK's exporter": Mebibytes;
    "DCGM_FI_DEV_GPU_UTIL" "Share of time in which any kernel ran": Percent,
        "DCGM_FI_DEV_GPU_UTIL_RATIO" RatioOrInteger;
    "DCGM_FI_DEV_MEM_COPY_UTIL" "Memory copy utilization of the card": Percent,
        "DCGM_FI_DEV_MEM_COPY_UTIL_RATIO" RatioOrInteger;
    "DCGM_FI_DEV_ENC_UTIL" "Encoder utilization of the card": Percent,
        "DCGM_FI_DEV_ENC_UTIL_RATIO" RatioOrInteger;
    "DCGM_FI_DEV_DEC_UTIL" "Decoder utilization of the card": Percent,
        "DCGM_FI_DEV_DEC_UTIL_RATIO" RatioOrInteger;
    "DCGM_FI_DEV_FB_USED" "Used memory of the card": Mebibytes,
        "DCGM_FI_DEV_FB_USED_BYTES" Bytes;
    "DCGM_FI_DEV_FB_FREE" "Free memory of the card": Mebibytes,
        "DCGM_FI_DEV_FB_FREE_BYTES" Bytes;
    "DCGM_FI_DEV_FB_RESERVED" "Reserved memory of the card": Mebibytes,
        "DCGM_FI_DEV_FB_RESERVED_BYTES" Bytes;
    "DCGM_FI_DEV_FB_TOTAL" "Memory of the card": Mebibytes,
        "DCGM_FI_DEV_FB_CAPACITY_BYTES" Bytes;
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE" "Share of time in which the graphics or compute engine was active": RatioOrPercent,
        "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_SM_ACTIVE" "Share of time in which an SM had a warp": RatioOrPercent,
        "DCGM_FI_PROF_SM_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_SM_OCCUPANCY" "Resident warps by the most that fit": RatioOrPercent;
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE" "Share of cycles in which the tensor pipe was active": RatioOrPercent,
        "DCGM_FI_PROF_PIPE_TENSOR_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE" "Share of cycles in which the FP64 pipe was active": RatioOrPercent,
        "DCGM_FI_PROF_PIPE_FP64_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE" "Share of cycles in which the FP32 pipe was active": RatioOrPercent,
        "DCGM_FI_PROF_PIPE_FP32_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE" "Share of cycles in which the FP16 pipe was active": RatioOrPercent,
        "DCGM_FI_PROF_PIPE_FP16_UTIL_RATIO" RatioOrPercent;
    "DCGM_FI_PROF_DRAM_ACTIVE" "Share of cycles in which the memory interface was active": RatioOrPercent,
        "DCGM_FI_PROF_DRAM_UTIL_RATIO" RatioOrPercent;
];
