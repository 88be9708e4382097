//! What a thread keeps for its next use: as much of it as it has lately needed at once.

/// Most that is kept of one kind.
const MOST: usize = 1_024;

/// Things to be used again.
#[derive(Debug)]
pub(super) struct Spare<T> {
    kept: Vec<T>,
    /// The fewest that there were since the last [`trim`](Self::trim): that many were not needed.
    unneeded: usize,
}

impl<T> Spare<T> {
    pub(super) const fn new() -> Self {
        Spare {
            kept: Vec::new(),
            unneeded: 0,
        }
    }

    /// The one that was used last, since the processor's caches know it best.
    pub(super) fn take(&mut self) -> Option<T> {
        let taken = self.kept.pop();
        self.unneeded = self.unneeded.min(self.kept.len());
        taken
    }

    pub(super) fn give(&mut self, used: T) {
        if self.kept.len() < MOST {
            self.kept.push(used);
        }
    }

    /// Drops what was not needed since the last time.
    pub(super) fn trim(&mut self) {
        self.kept.drain(..self.unneeded);
        self.unneeded = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_were_needed_at_once() {
        let mut spare = Spare::new();
        for number in 0..10 {
            spare.give(number);
        }
        spare.trim();
        assert_eq!(spare.kept.len(), 10, "they were in use until now");
        assert_eq!((spare.take(), spare.take()), (Some(9), Some(8)));
        spare.give(8);
        spare.give(9);
        spare.trim();
        assert_eq!(spare.kept, [8, 9]);
        spare.trim();
        assert_eq!(spare.take(), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut spare = Spare::new();
        for number in 0..2 * MOST {
            spare.give(number);
        }
        assert_eq!(spare.kept.len(), MOST);
    }
}
