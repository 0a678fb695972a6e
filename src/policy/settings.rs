//! A spec → the engine's policy, in one place.
