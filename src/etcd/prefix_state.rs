//! All keys under a prefix, as of one revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::messages::{EVENT_DELETE, EVENT_PUT, Event, KeyValue};

/// The most keys under a prefix.
const MAX_KEYS: usize = 100_000;

/// The most bytes of keys and values under a prefix.
const MAX_BYTES: usize = 64 << 20;

/// All keys under a prefix as of one revision. Clones share the keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrefixSnapshot {
    /// By key.
    pub keys: Arc<BTreeMap<Vec<u8>, Arc<KeyValue>>>,
    /// The last revision of the store that is contained. It is that of the last change under the prefix that was seen, or
    /// of the read; changes of other keys do not show.
    pub revision: i64,
    /// The cluster that it was read from.
    pub cluster_id: u64,
}

/// Keys that are collected, with bounds.
#[derive(Debug, Default)]
pub(super) struct PrefixState {
    pub(super) snapshot: PrefixSnapshot,
    prefix: Vec<u8>,
    bytes: usize,
}

impl PrefixState {
    pub(super) fn new(prefix: Vec<u8>, cluster_id: u64, revision: i64) -> Self {
        PrefixState {
            snapshot: PrefixSnapshot {
                keys: Arc::default(),
                revision,
                cluster_id,
            },
            prefix,
            bytes: 0,
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// The key is not under the prefix, or there are too many.
    pub(super) fn insert(&mut self, key_value: KeyValue) -> Result<(), String> {
        if !key_value.key.starts_with(&self.prefix) {
            return Err("a key is not under the prefix".to_owned());
        }
        let keys = Arc::make_mut(&mut self.snapshot.keys);
        self.bytes += size(&key_value);
        let old = keys.insert(key_value.key.clone(), Arc::new(key_value));
        self.bytes -= old.map_or(0, |old| size(&old));
        if keys.len() > MAX_KEYS {
            return Err(format!("there are more than {MAX_KEYS} keys"));
        }
        if self.bytes > MAX_BYTES {
            let mebibytes = MAX_BYTES >> 20;
            return Err(format!("keys and values have more than {mebibytes} MiB"));
        }
        Ok(())
    }

    /// Makes a change that a watch has reported. Returns whether it was new.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert), or it is not a change.
    pub(super) fn apply(&mut self, event: Event) -> Result<bool, String> {
        let Some(key_value) = event.kv else {
            return Err("an event has no key".to_owned());
        };
        let revision = key_value.mod_revision;
        if revision < self.snapshot.revision {
            // The read has it already, or an event came twice.
            return Ok(false);
        }
        match event.kind {
            EVENT_PUT => self.insert(key_value)?,
            EVENT_DELETE => {
                let keys = Arc::make_mut(&mut self.snapshot.keys);
                let old = keys.remove(&key_value.key);
                self.bytes -= old.map_or(0, |old| size(&old));
            }
            kind => return Err(format!("an event is of the unknown kind {kind}")),
        }
        self.snapshot.revision = revision;
        Ok(true)
    }
}

fn size(key_value: &KeyValue) -> usize {
    key_value.key.len() + key_value.value.len()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn event(kind: i32, key: &str, revision: i64) -> Event {
        let kv = KeyValue {
            key: key.into(),
            mod_revision: revision,
            value: vec![0; revision as usize % 7],
            ..KeyValue::default()
        };
        Event { kind, kv: Some(kv) }
    }

    #[test]
    fn what_is_no_change_under_the_prefix_is_an_error() {
        let mut state = PrefixState::new(b"/a/".to_vec(), 1, 10);
        let none = Event {
            kind: EVENT_PUT,
            kv: None,
        };
        for wrong in [event(EVENT_PUT, "/b/", 11), event(7, "/a/b", 11), none] {
            assert!(state.apply(wrong).is_err());
        }
        assert_eq!(state.apply(event(EVENT_PUT, "/a/b", 9)), Ok(false));
        assert!(state.snapshot.keys.is_empty());
    }

    #[test]
    fn keys_and_bytes_are_bounded() {
        let mut state = PrefixState::new(Vec::new(), 1, 1);
        let large = |number: usize| KeyValue {
            key: format!("{number}").into(),
            value: vec![0; 1 << 20],
            ..KeyValue::default()
        };
        let added = (0..).take_while(|number| state.insert(large(*number)).is_ok());
        assert_eq!(added.count(), 63);
    }

    proptest! {
        #[test]
        fn events_lead_to_the_same_keys_as_in_a_map(
            events in vec((prop_oneof![Just(EVENT_PUT), Just(EVENT_DELETE)], "[a-d]"), 0..50),
        ) {
            let mut state = PrefixState::new(Vec::new(), 1, 1);
            let mut model = BTreeMap::new();
            for (number, (kind, key)) in events.iter().enumerate() {
                let revision = number as i64 + 2;
                state.apply(event(*kind, key, revision)).expect("an event");
                match *kind {
                    EVENT_PUT => model.insert(key.clone().into_bytes(), revision),
                    _ => model.remove(key.as_bytes()),
                };
            }
            let keys = state.snapshot.keys.iter();
            let found = keys.map(|(key, value)| (key.clone(), value.mod_revision));
            prop_assert_eq!(BTreeMap::from_iter(found), model);
            let sizes = state.snapshot.keys.values().map(|it| size(it));
            prop_assert_eq!(state.bytes, sizes.sum::<usize>());
        }
    }
}
