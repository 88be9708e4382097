//! A choice that changes nothing and is listened to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::chooser::Chooser;
use super::explanation::Reason;
use super::mode::Mode;
use super::request::Request;

/// A choice that changes nothing and is listened to. What it would write it finds again when it reads, so it goes the way
/// of a choice in earnest to its end.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// What the choice would have left in the cells that it writes to, by their addresses.
    written: RefCell<HashMap<usize, u64>>,
    /// Of its own, so that the draws of the thread's stay where they are.
    rng: RefCell<SmallRng>,
    heard: RefCell<Heard>,
}

#[derive(Debug)]
struct Heard {
    /// By position.
    notes: Vec<Note>,
    /// Positions in the order in which the choice came to them.
    order: Vec<usize>,
}

/// What a choice has said about a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Note {
    seen: bool,
    /// The load by which it was weighed.
    pub(super) load: Option<f64>,
    /// The score by which it was ranked.
    pub(super) score: Option<f64>,
    /// Why it was passed over, the last time.
    pub(super) reason: Option<Reason>,
}

impl Rehearsal {
    /// A rehearsal among `hosts` hosts.
    pub(super) fn new(hosts: usize) -> Self {
        Rehearsal {
            written: RefCell::default(),
            rng: RefCell::new(SmallRng::from_entropy()),
            heard: RefCell::new(Heard {
                notes: vec![Note::default(); hosts],
                order: Vec::with_capacity(hosts),
            }),
        }
    }

    /// The next host in the order of the choice, which may or may not have come as far: `reason` holds if it has said
    /// nothing else. `false`: all hosts have been looked at.
    pub(crate) fn ranks(&self, position: usize, load: Option<f64>, reason: Reason) -> bool {
        self.sees(position);
        let heard = &mut *self.heard.borrow_mut();
        let note = &mut heard.notes[position];
        note.load = note.load.or(load);
        note.reason = note.reason.or(Some(reason));
        heard.order.len() < heard.notes.len()
    }

    /// The score of the host, the higher the better.
    pub(crate) fn scores(&self, position: usize, score: f64) {
        self.heard.borrow_mut().notes[position].score = Some(score);
    }

    /// Positions in the order in which the choice came to them, each with what it has said.
    pub(super) fn into_notes(self) -> Vec<(usize, Note)> {
        let Heard { notes, order } = self.heard.into_inner();
        let unseen = (0..notes.len()).filter(|&position| !notes[position].seen);
        let positions = order.iter().copied().chain(unseen);
        positions
            .map(|position| (position, notes[position]))
            .collect()
    }

    fn write(&self, cell: &AtomicU64, value: u64) {
        let address = ptr::from_ref(cell).addr();
        self.written.borrow_mut().insert(address, value);
    }
}

impl Mode for Rehearsal {
    fn pick(&self, chooser: &dyn Chooser, request: &Request<'_>) -> Option<usize> {
        chooser.rehearse(request, self)
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

    fn sees(&self, position: usize) {
        let heard = &mut *self.heard.borrow_mut();
        if !std::mem::replace(&mut heard.notes[position].seen, true) {
            heard.order.push(position);
        }
    }

    fn weighs(&self, position: usize, load: f64) {
        self.heard.borrow_mut().notes[position].load = Some(load);
    }

    fn passes(&self, position: usize, reason: Reason) {
        self.heard.borrow_mut().notes[position].reason = Some(reason);
    }
}
