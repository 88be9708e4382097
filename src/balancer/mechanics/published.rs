//! The current snapshot of a balancer, read without touching memory that other threads write.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::members::Snapshot;

/// Snapshots that a thread keeps at hand. With more balancers than this they take turns, and a read costs what it costs
/// without.
const AT_HAND: usize = 8;

/// Numbers the publishers, so that a thread knows whose snapshot it has.
static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SEEN: RefCell<[Option<Seen>; AT_HAND]> = const { RefCell::new([const { None }; AT_HAND]) };
}

/// What a thread saw last of one publisher.
///
/// A snapshot may stay here until the thread reads again or ends, so at most [`AT_HAND`] outdated ones live on for each
/// thread. They cost memory and nothing else.
struct Seen {
    publisher: u64,
    generation: u64,
    snapshot: Arc<Snapshot>,
}

/// A snapshot that is replaced as a whole.
///
/// One writer at a time stores the snapshot and then raises the generation; whoever sees the generation (acquire) sees
/// the snapshot of it or a newer one. A read in the usual case is one load of the generation: the two locked
/// instructions that an `ArcSwap` costs a reader were a quarter of a pick.
#[derive(Debug)]
pub(super) struct Published {
    number: u64,
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
}

impl Default for Published {
    fn default() -> Self {
        Published {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            snapshot: ArcSwap::default(),
        }
    }
}

impl Published {
    /// Replaces the snapshot. Must not be called by two threads at a time.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The current snapshot, for whoever is in no hurry.
    pub(super) fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads the current snapshot. `read` must not read another balancer's.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Snapshot) -> R) -> R {
        SEEN.with_borrow_mut(|seen| {
            let generation = self.generation.load(Ordering::Acquire);
            let place = &mut seen[(self.number % AT_HAND as u64) as usize];
            place.take_if(|seen| seen.publisher != self.number || seen.generation != generation);
            let seen = place.get_or_insert_with(|| Seen {
                publisher: self.number,
                generation,
                snapshot: self.load(),
            });
            read(&seen.snapshot)
        })
    }
}
