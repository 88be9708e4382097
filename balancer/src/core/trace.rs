//! What a pick finds about the hosts, for its explanation.

use std::cell::RefCell;

use super::explanation::CandidateReason;

/// Records what a pick finds. A pick that is not explained has a trace that records nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace<'a>(Option<&'a Recording>);

/// What was recorded.
#[derive(Debug)]
pub(super) struct Recording {
    /// By position.
    hosts: RefCell<Vec<HostTrace>>,
    /// Positions in the order in which the pick considered them.
    order: RefCell<Vec<usize>>,
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HostTrace {
    is_listed: bool,
    /// The load that was compared.
    pub(super) load: Option<f64>,
    /// The score that was compared.
    pub(super) score: Option<f64>,
    /// Why the host was last rejected.
    pub(super) reason: Option<CandidateReason>,
}

/// A host in the order of an algorithm; see [`Picker::rank`](super::Picker::rank).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) position: usize,
    /// What the algorithm compares, lower is better.
    pub(crate) load: Option<f64>,
    /// What the algorithm ranks by, higher is better.
    pub(crate) score: Option<f64>,
    /// Why it is not picked, unless something else excludes it.
    pub(crate) reason: CandidateReason,
}

impl Ranked {
    pub(crate) fn new(position: usize, load: Option<f64>, reason: CandidateReason) -> Self {
        Ranked {
            position,
            load,
            score: None,
            reason,
        }
    }
}

impl<'a> Trace<'a> {
    /// Records nothing.
    pub(super) const NONE: Trace<'static> = Trace(None);

    /// Whether the pick is only explained: then it must write nothing, not even hints.
    pub(crate) fn is_explanation(&self) -> bool {
        self.0.is_some()
    }

    /// The pick considers the host at `position`.
    #[inline]
    pub(crate) fn visit(&self, position: usize) {
        if let Some(recording) = self.0 {
            recording.list(position);
        }
    }

    /// The pick rejects the host.
    #[inline]
    pub(crate) fn reject(&self, position: usize, reason: CandidateReason) {
        if let Some(recording) = self.0 {
            recording.hosts.borrow_mut()[position].reason = Some(reason);
        }
    }
}

impl Recording {
    pub(super) fn new(hosts: usize) -> Self {
        Recording {
            hosts: RefCell::new(vec![HostTrace::default(); hosts]),
            order: RefCell::new(Vec::with_capacity(hosts)),
        }
    }

    pub(super) fn trace(&self) -> Trace<'_> {
        Trace(Some(self))
    }

    fn list(&self, position: usize) {
        let listed = &mut self.hosts.borrow_mut()[position].is_listed;
        if !std::mem::replace(listed, true) {
            self.order.borrow_mut().push(position);
        }
    }

    /// Adds a host in the algorithm's order, whether the pick considered it or not.
    pub(super) fn rank(&self, ranked: Ranked) {
        self.list(ranked.position);
        let host = &mut self.hosts.borrow_mut()[ranked.position];
        host.load = ranked.load;
        host.score = ranked.score;
        host.reason = host.reason.or(Some(ranked.reason));
    }

    /// All positions, those that the pick considered first, each with what is known of its host.
    pub(super) fn into_host_traces(self) -> Vec<(usize, HostTrace)> {
        let count = self.hosts.borrow().len();
        (0..count).for_each(|position| self.list(position));
        let (hosts, order) = (self.hosts.into_inner(), self.order.into_inner());
        let positions = order.into_iter();
        positions
            .map(|position| (position, hosts[position]))
            .collect()
    }
}
