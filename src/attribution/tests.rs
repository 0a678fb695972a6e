//! R1–R9 as tables of cases.

#![expect(clippy::float_cmp, reason = "the values are exact, or must be the same to the bit")]

mod pods;
mod properties;
mod servers;
mod services;
