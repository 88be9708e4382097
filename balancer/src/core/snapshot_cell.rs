//! The current snapshot of a balancer, read without touching memory that other threads write.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::generic_balancer::Snapshot;

/// Snapshots that a thread caches. Balancers beyond this number evict each other, and a read then costs as much as
/// without a cache.
const CACHED_SNAPSHOTS: usize = 8;

/// Numbers the cells, so that a thread knows which cell a cached snapshot belongs to.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CACHE: RefCell<[Option<CachedSnapshot>; CACHED_SNAPSHOTS]> = const { RefCell::new([const { None }; CACHED_SNAPSHOTS]) };
}

/// The last snapshot that a thread read from one cell.
///
/// It may stay until the thread reads again or ends, so each thread keeps at most [`CACHED_SNAPSHOTS`] outdated ones
/// alive. They only cost memory.
struct CachedSnapshot {
    cell: u64,
    generation: u64,
    snapshot: Arc<Snapshot>,
}

/// A snapshot that is replaced as a whole.
///
/// One writer at a time stores the snapshot and then raises the generation; a reader that sees the generation (acquire)
/// sees its snapshot or a newer one. A usual read is one load of the generation: the two locked instructions of a read
/// of an `ArcSwap` were a quarter of a pick.
#[derive(Debug)]
pub(super) struct SnapshotCell {
    id: u64,
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
}

impl Default for SnapshotCell {
    fn default() -> Self {
        SnapshotCell {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            snapshot: ArcSwap::default(),
        }
    }
}

impl SnapshotCell {
    /// Replaces the snapshot. Must not be called concurrently.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The current snapshot, without the cache.
    pub(super) fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads the current snapshot. `read` must not read another balancer's.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Snapshot) -> R) -> R {
        CACHE.with_borrow_mut(|seen| {
            let generation = self.generation.load(Ordering::Acquire);
            let entry = &mut seen[(self.id % CACHED_SNAPSHOTS as u64) as usize];
            entry.take_if(|seen| seen.cell != self.id || seen.generation != generation);
            let seen = entry.get_or_insert_with(|| CachedSnapshot {
                cell: self.id,
                generation,
                snapshot: self.load(),
            });
            read(&seen.snapshot)
        })
    }
}
