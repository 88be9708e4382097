//! What a thread keeps for its next use: as much of it as it has lately needed at once.

/// Most that is kept of one kind.
const CAPACITY: usize = 1_024;

/// Things to be used again.
#[derive(Debug)]
pub(super) struct FreeList<T> {
    kept: Vec<T>,
    /// The fewest that there were since the last [`trim`](Self::trim): that many were not needed.
    unused: usize,
}

impl<T> FreeList<T> {
    pub(super) const fn new() -> Self {
        FreeList {
            kept: Vec::new(),
            unused: 0,
        }
    }

    /// The one that was used last, since the processor's caches know it best.
    pub(super) fn take(&mut self) -> Option<T> {
        let taken = self.kept.pop();
        self.unused = self.unused.min(self.kept.len());
        taken
    }

    pub(super) fn put(&mut self, used: T) {
        if self.kept.len() < CAPACITY {
            self.kept.push(used);
        }
    }

    /// Drops what was not needed since the last time.
    pub(super) fn trim(&mut self) {
        self.kept.drain(..self.unused);
        self.unused = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_were_needed_at_once() {
        let mut spare = FreeList::new();
        for number in 0..10 {
            spare.put(number);
        }
        spare.trim();
        assert_eq!(spare.kept.len(), 10, "they were in use until now");
        assert_eq!((spare.take(), spare.take()), (Some(9), Some(8)));
        spare.put(8);
        spare.put(9);
        spare.trim();
        assert_eq!(spare.kept, [8, 9]);
        spare.trim();
        assert_eq!(spare.take(), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut spare = FreeList::new();
        for number in 0..2 * CAPACITY {
            spare.put(number);
        }
        assert_eq!(spare.kept.len(), CAPACITY);
    }
}
