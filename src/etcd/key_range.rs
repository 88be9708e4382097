//! Ranges of keys as etcd writes them: the first key, and the first one after the range.

/// The range of all keys that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl KeyRange {
    pub(super) fn of_prefix(prefix: &[u8]) -> Self {
        // No key is empty, and an empty range begins with one zero.
        let start = match prefix {
            [] => vec![0],
            _ => prefix.to_vec(),
        };
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            // One zero stands for the end of all keys.
            None => end = vec![0],
        }
        KeyRange { start, end }
    }

    /// The part of this range that follows a key.
    pub(super) fn after(&self, key: &[u8]) -> Self {
        KeyRange {
            start: [key, &[0]].concat(),
            end: self.end.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn contains(range: &KeyRange, key: &[u8]) -> bool {
        key >= &*range.start && (range.end == [0] || key < &*range.end)
    }

    proptest! {
        #[test]
        fn a_range_has_the_keys_with_its_prefix(
            prefix in vec(prop_oneof![Just(0), Just(1), Just(254), Just(255)], 0..4),
            key in vec(prop_oneof![Just(0), Just(1), Just(254), Just(255)], 1..5),
        ) {
            let range = KeyRange::of_prefix(&prefix);
            prop_assert_eq!(contains(&range, &key), key.starts_with(&prefix));
            prop_assert!(!contains(&range.after(&key), &key));
            prop_assert!(range.after(&key).start.starts_with(&key));
        }
    }
}
