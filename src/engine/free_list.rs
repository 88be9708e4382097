//! A thread-local list of reusable values, which holds about as many as were lately in use at once.

/// The maximum number of values in a list.
const CAPACITY: usize = 1_024;

/// Values to be reused, most recently used last.
#[derive(Debug)]
pub(super) struct FreeList<T> {
    values: Vec<T>,
    /// The lowest length since the last [`trim`](Self::trim): that many values were not needed.
    unused: usize,
}

impl<T> FreeList<T> {
    pub(super) const fn new() -> Self {
        FreeList {
            values: Vec::new(),
            unused: 0,
        }
    }

    /// Takes the most recently used value, which is the most likely to be in the processor's cache.
    pub(super) fn take(&mut self) -> Option<T> {
        let taken = self.values.pop();
        self.unused = self.unused.min(self.values.len());
        taken
    }

    pub(super) fn put(&mut self, used: T) {
        if self.values.len() < CAPACITY {
            self.values.push(used);
        }
    }

    /// Drops the values that were not needed since the last call.
    pub(super) fn trim(&mut self) {
        self.values.drain(..self.unused);
        self.unused = self.values.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_values_stay_as_were_in_use_concurrently() {
        let mut free_list = FreeList::new();
        for number in 0..10 {
            free_list.put(number);
        }
        free_list.trim();
        assert_eq!(free_list.values.len(), 10, "they were in use until now");
        assert_eq!((free_list.take(), free_list.take()), (Some(9), Some(8)));
        free_list.put(8);
        free_list.put(9);
        free_list.trim();
        assert_eq!(free_list.values, [8, 9]);
        free_list.trim();
        assert_eq!(free_list.take(), None);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut free_list = FreeList::new();
        for number in 0..2 * CAPACITY {
            free_list.put(number);
        }
        assert_eq!(free_list.values.len(), CAPACITY);
    }
}
