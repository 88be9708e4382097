//! The current snapshot, cached by each thread.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::balancer::Snapshot;

/// Numbers the published snapshots, so that a thread knows which one it has cached. 0 = none.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// The indices of the cells. That of a dropped cell is used again, so the caches of threads do not grow with every reload.
static INDICES: Mutex<Indices> = Mutex::new(Indices {
    free: Vec::new(),
    used: 0,
});

struct Indices {
    free: Vec<usize>,
    used: usize,
}

thread_local! {
    /// By the index of the cell.
    static CACHE: RefCell<Vec<CachedSnapshot>> = const { RefCell::new(Vec::new()) };
}

/// The last snapshot that a thread read from one cell.
///
/// It stays until the thread reads again, from this cell or one that has its index later, or ends: an outdated snapshot may
/// cost memory for a while, nothing else.
#[derive(Default)]
struct CachedSnapshot {
    generation: u64,
    snapshot: Arc<Snapshot>,
}

/// A snapshot that is replaced as a whole.
///
/// One writer at a time stores the snapshot and then its generation; a reader that sees the generation (acquire) sees its
/// snapshot or a newer one. A usual read is one load of the generation: the two locked instructions of a read of an
/// `ArcSwap` were a quarter of a pick.
#[derive(Debug)]
pub(super) struct SnapshotCell {
    index: usize,
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
}

impl Default for SnapshotCell {
    fn default() -> Self {
        let mut indices = INDICES.lock().unwrap_or_else(PoisonError::into_inner);
        let index = indices.free.pop().unwrap_or_else(|| {
            indices.used += 1;
            indices.used - 1
        });
        SnapshotCell {
            index,
            generation: AtomicU64::new(GENERATIONS.fetch_add(1, Ordering::Relaxed)),
            snapshot: ArcSwap::default(),
        }
    }
}

impl Drop for SnapshotCell {
    fn drop(&mut self) {
        let mut indices = INDICES.lock().unwrap_or_else(PoisonError::into_inner);
        indices.free.push(self.index);
    }
}

impl SnapshotCell {
    /// Replaces the snapshot. Must not be called concurrently.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
    }

    /// The current snapshot, without the cache.
    pub(super) fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads the current snapshot. `read` must not read another balancer's.
    #[inline]
    pub(super) fn read<R>(&self, read: impl FnOnce(&Snapshot) -> R) -> R {
        CACHE.with_borrow_mut(|cache| {
            let generation = self.generation.load(Ordering::Acquire);
            match cache.get(self.index) {
                Some(cached) if cached.generation == generation => read(&cached.snapshot),
                _ => read(self.refresh(cache, generation)),
            }
        })
    }

    #[cold]
    fn refresh<'a>(&self, cache: &'a mut Vec<CachedSnapshot>, generation: u64) -> &'a Snapshot {
        if cache.len() <= self.index {
            cache.resize_with(self.index + 1, CachedSnapshot::default);
        }
        let cached = &mut cache[self.index];
        *cached = CachedSnapshot {
            generation,
            snapshot: self.load(),
        };
        &cached.snapshot
    }
}
