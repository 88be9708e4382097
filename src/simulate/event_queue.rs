//! Events in the order of their times.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The last time there is, 292 years; what would be later happens then, so that no sum of times overflows.
pub(super) const HORIZON: u64 = u64::MAX / 2;

/// Events that are due, each at a time in nanoseconds. Those of the same time come in the order in which they were added.
#[derive(Debug)]
pub(super) struct EventQueue<T> {
    heap: BinaryHeap<Scheduled<T>>,
    added: u64,
}

#[derive(Debug)]
struct Scheduled<T> {
    at: u64,
    number: u64,
    event: T,
}

impl<T> EventQueue<T> {
    pub(super) fn new() -> Self {
        EventQueue {
            heap: BinaryHeap::new(),
            added: 0,
        }
    }

    /// Adds an event, at [`HORIZON`] if it would be later.
    pub(super) fn add(&mut self, at: u64, event: T) {
        self.heap.push(Scheduled {
            at: at.min(HORIZON),
            number: self.added,
            event,
        });
        self.added += 1;
    }

    /// When the next event is due.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|next| next.at)
    }

    /// Takes the next event.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|next| next.event)
    }
}

impl<T> Scheduled<T> {
    fn rank(&self) -> (u64, u64) {
        (self.at, self.number)
    }
}

impl<T> Ord for Scheduled<T> {
    /// Reversed: the heap has its largest element on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<T> Eq for Scheduled<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_later_than_the_horizon_happens_at_it() {
        let mut queue = EventQueue::new();
        queue.add(u64::MAX, "late");
        assert_eq!(queue.next_at(), Some(HORIZON));
    }

    proptest! {
        #[test]
        fn events_come_by_time_and_then_by_turn(times in prop::collection::vec(0u64..20, 0..200)) {
            let mut queue = EventQueue::new();
            for (number, at) in times.iter().enumerate() {
                queue.add(*at, (*at, number));
            }
            let mut sorted = Vec::from_iter(times.iter().copied().zip(0..));
            sorted.sort_unstable();
            let popped = Vec::from_iter(std::iter::from_fn(|| queue.pop()));
            prop_assert_eq!(popped, sorted);
        }
    }
}
