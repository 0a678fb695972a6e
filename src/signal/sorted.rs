//! The last so many values, and the same in order.
//!
//! A decision looks up a few quantiles of hundreds of values each time, and one value changes in between: a sorted copy beside
//! the ring costs one binary search and one move of memory a value.

use std::{cmp::Ordering, collections::VecDeque};

use serde::{Deserialize, Serialize};

/// What can be kept in order.
pub trait Value: Copy {
    /// A total order.
    fn order(&self, other: &Self) -> Ordering;

    /// What is none is not kept.
    fn is_value(&self) -> bool;
}

/// The last so many values. Only the ring is serialized: the sorted copy is made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<T>", into = "VecDeque<T>")]
#[serde(bound(serialize = "T: Value + Serialize", deserialize = "T: Value + Deserialize<'de>"))]
pub struct Sorted<T> {
    ring: VecDeque<T>,
    sorted: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), sorted: Vec::new() }
    }
}

impl<T: Value> From<VecDeque<T>> for Sorted<T> {
    fn from(mut ring: VecDeque<T>) -> Self {
        ring.retain(Value::is_value);
        let mut sorted: Vec<T> = ring.iter().copied().collect();
        sorted.sort_by(Value::order);
        Self { ring, sorted }
    }
}

impl<T> From<Sorted<T>> for VecDeque<T> {
    fn from(sorted: Sorted<T>) -> Self {
        sorted.ring
    }
}

impl<T: Value> Sorted<T> {
    /// Adds a value, and forgets the oldest beyond `most`.
    pub fn push(&mut self, value: T, most: usize) {
        if !value.is_value() {
            return;
        }
        while self.ring.len() >= most.max(1) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.sorted.remove(self.place(&oldest));
        }
        self.ring.push_back(value);
        self.sorted.insert(self.place(&value), value);
    }

    /// From the least to the greatest.
    #[must_use]
    pub fn ascending(&self) -> &[T] {
        &self.sorted
    }

    fn place(&self, value: &T) -> usize {
        self.sorted.partition_point(|kept| kept.order(value).is_lt())
    }
}
