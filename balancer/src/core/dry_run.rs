//! A pick without side effects that records what the algorithm does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::explanation::CandidateReason;
use super::pick_request::PickRequest;
use super::picker::DynPicker;
use super::trace::PickTrace;

/// A pick without side effects that records what the algorithm does. Values that the pick would write are kept here and
/// seen by its own later reads, so it takes the same path as a real pick.
#[derive(Debug)]
pub(crate) struct DryRun {
    /// The values that the pick would have written, by the addresses of the atomics.
    written: RefCell<HashMap<usize, u64>>,
    /// A generator of its own, so that the thread's sequence does not advance.
    rng: RefCell<SmallRng>,
    recording: RefCell<Recording>,
}

#[derive(Debug)]
struct Recording {
    /// By position.
    hosts: Vec<HostTrace>,
    /// Positions in the order in which the pick visited them.
    order: Vec<usize>,
}

/// What a pick has recorded about a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HostTrace {
    seen: bool,
    /// The load that was compared.
    pub(super) load: Option<f64>,
    /// The score that was compared.
    pub(super) score: Option<f64>,
    /// Why the host was last rejected.
    pub(super) reason: Option<CandidateReason>,
}

impl DryRun {
    /// A dry run over `host_count` hosts.
    pub(super) fn new(host_count: usize) -> Self {
        DryRun {
            written: RefCell::default(),
            rng: RefCell::new(SmallRng::from_entropy()),
            recording: RefCell::new(Recording {
                hosts: vec![HostTrace::default(); host_count],
                order: Vec::with_capacity(host_count),
            }),
        }
    }

    /// Records the next host in the algorithm's order, whether the pick visited it or not. `reason` applies if the pick
    /// recorded none. Returns `false` if all hosts are recorded.
    pub(crate) fn rank(&self, position: usize, load: Option<f64>, reason: CandidateReason) -> bool {
        self.visit(position);
        let recording = &mut *self.recording.borrow_mut();
        let host_trace = &mut recording.hosts[position];
        host_trace.load = host_trace.load.or(load);
        host_trace.reason = host_trace.reason.or(Some(reason));
        recording.order.len() < recording.hosts.len()
    }

    /// Records the host's score; higher is better.
    pub(crate) fn record_score(&self, position: usize, score: f64) {
        self.recording.borrow_mut().hosts[position].score = Some(score);
    }

    /// Positions in the order in which the pick visited them, each with its record.
    pub(super) fn into_host_traces(self) -> Vec<(usize, HostTrace)> {
        let Recording { hosts, order } = self.recording.into_inner();
        let unseen = (0..hosts.len()).filter(|&position| !hosts[position].seen);
        let positions = order.iter().copied().chain(unseen);
        positions
            .map(|position| (position, hosts[position]))
            .collect()
    }

    fn write(&self, cell: &AtomicU64, value: u64) {
        let address = ptr::from_ref(cell).addr();
        self.written.borrow_mut().insert(address, value);
    }
}

impl PickTrace for DryRun {
    fn pick(&self, picker: &dyn DynPicker, request: &PickRequest<'_>) -> Option<usize> {
        picker.dyn_dry_run(request, self)
    }

    fn draw(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    fn load(&self, cell: &AtomicU64, order: Ordering) -> u64 {
        let written = self.written.borrow();
        let value = written.get(&ptr::from_ref(cell).addr());
        value.copied().unwrap_or_else(|| cell.load(order))
    }

    fn store(&self, cell: &AtomicU64, value: u64, _: Ordering) {
        self.write(cell, value);
    }

    fn fetch_add(&self, cell: &AtomicU64, more: u64, order: Ordering) -> u64 {
        let before = self.load(cell, order);
        self.write(cell, before.wrapping_add(more));
        before
    }

    fn fetch_min(&self, cell: &AtomicU64, value: u64, order: Ordering) {
        let before = self.load(cell, order);
        self.write(cell, before.min(value));
    }

    fn compare_exchange(&self, cell: &AtomicU64, seen: u64, value: u64, order: Ordering) -> bool {
        let is_there = self.load(cell, order) == seen;
        if is_there {
            self.write(cell, value);
        }
        is_there
    }

    fn visit(&self, position: usize) {
        let recording = &mut *self.recording.borrow_mut();
        if !std::mem::replace(&mut recording.hosts[position].seen, true) {
            recording.order.push(position);
        }
    }

    fn record_load(&self, position: usize, load: f64) {
        self.recording.borrow_mut().hosts[position].load = Some(load);
    }

    fn reject(&self, position: usize, reason: CandidateReason) {
        self.recording.borrow_mut().hosts[position].reason = Some(reason);
    }
}
