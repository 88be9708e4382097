//! A host that serves a few requests at a time, and the rest first come, first served.

use std::collections::VecDeque;

use super::gauge::Gauge;

/// The requests at a host.
#[derive(Debug)]
pub(super) struct HostQueue<T> {
    concurrency: usize,
    waiting: VecDeque<T>,
    serving: usize,
    /// How many wait.
    pub(super) length: Gauge,
    /// How many are served.
    pub(super) busy: Gauge,
}

impl<T> HostQueue<T> {
    /// A host that serves `concurrency` requests at a time. Its gauges are observed from a time on.
    pub(super) fn new(concurrency: usize, observed_from: u64) -> Self {
        HostQueue {
            concurrency,
            waiting: VecDeque::new(),
            serving: 0,
            length: Gauge::observed_from(observed_from),
            busy: Gauge::observed_from(observed_from),
        }
    }

    /// A request arrives. Returns it if its service begins now; otherwise it waits.
    pub(super) fn arrive(&mut self, now: u64, request: T) -> Option<T> {
        if self.serving < self.concurrency {
            self.serving += 1;
            self.busy.set(now, self.serving as u64);
            return Some(request);
        }
        self.waiting.push_back(request);
        self.length.set(now, self.waiting.len() as u64);
        None
    }

    /// A service ends. Returns the request whose service begins now.
    pub(super) fn complete(&mut self, now: u64) -> Option<T> {
        let next = self.waiting.pop_front();
        match &next {
            Some(_) => self.length.set(now, self.waiting.len() as u64),
            None => {
                self.serving -= 1;
                self.busy.set(now, self.serving as u64);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_concurrency_wait_for_their_turn() {
        let mut queue = HostQueue::new(2, 0);
        assert_eq!(queue.arrive(0, 'a'), Some('a'));
        assert_eq!(queue.arrive(0, 'b'), Some('b'));
        assert_eq!(queue.arrive(0, 'c'), None);
        assert_eq!(queue.arrive(5, 'd'), None);
        assert_eq!(queue.complete(10), Some('c'));
        assert_eq!(queue.complete(10), Some('d'));
        assert_eq!(queue.complete(20), None);
        assert_eq!(queue.complete(20), None);
        assert_eq!(queue.arrive(20, 'e'), Some('e'));
        queue.length.close(20);
        queue.busy.close(20);
        assert_eq!(queue.length.mean(20), (5.0 + 2.0 * 5.0) / 20.0);
        assert_eq!((queue.length.peak(), queue.busy.peak()), (2, 2));
    }
}
