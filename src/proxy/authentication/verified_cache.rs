//! Credentials that were found right, for a while.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::SHA256_OUTPUT_LEN;
use ring::hmac;

use crate::config::PasswordHash;
use crate::message::BasicCredentials;

/// How long credentials count as right without another check.
const LIFETIME: Duration = Duration::from_secs(300);

/// Credentials in each generation. Both take a megabyte.
const GENERATION: usize = 8_192;

/// Stands for a name, its password and the hash that they were right for.
pub(super) type Tag = [u8; SHA256_OUTPUT_LEN];

/// The tags of right credentials. They tell no password: their key is random and stays in the process.
pub(super) struct VerifiedCache {
    key: hmac::Key,
    tags: Mutex<Generations>,
}

/// Once the newer generation is full it becomes the older one, and what was older is forgotten.
#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<Tag, Instant>,
    older: HashMap<Tag, Instant>,
}

impl fmt::Debug for VerifiedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedCache").finish_non_exhaustive()
    }
}

impl Default for VerifiedCache {
    fn default() -> Self {
        VerifiedCache {
            key: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
            tags: Mutex::default(),
        }
    }
}

impl VerifiedCache {
    /// The tag of credentials for a hash. With another hash in the file they have another tag.
    pub(super) fn tag(&self, hash: &PasswordHash, credentials: &BasicCredentials) -> Tag {
        let BasicCredentials { name, password } = credentials;
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&hash.cost.to_be_bytes());
        context.update(&hash.salt);
        context.update(&hash.hash);
        // The length tells where the name ends.
        context.update(&name.len().to_be_bytes());
        context.update(name);
        context.update(password);
        let mut tag = [0; SHA256_OUTPUT_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether the tag was inserted in the time before `now` that credentials last.
    pub(super) fn contains(&self, tag: &Tag, now: Instant) -> bool {
        let tags = self.generations();
        let inserted = tags.newer.get(tag).or_else(|| tags.older.get(tag));
        inserted.is_some_and(|at| now.saturating_duration_since(*at) < LIFETIME)
    }

    pub(super) fn insert(&self, tag: Tag, now: Instant) {
        let mut tags = self.generations();
        if tags.newer.len() >= GENERATION {
            tags.older = mem::take(&mut tags.newer);
        }
        tags.newer.insert(tag, now);
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        // Each change leaves the maps whole, so a poisoned lock leaves nothing half-written.
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, password: &str) -> BasicCredentials {
        BasicCredentials {
            name: name.into(),
            password: password.into(),
        }
    }

    const HASH: PasswordHash = PasswordHash {
        cost: 4,
        salt: [1; 16],
        hash: [2; 23],
    };

    #[test]
    fn a_tag_stands_for_a_name_a_password_and_a_hash() {
        let cache = VerifiedCache::default();
        let tag = cache.tag(&HASH, &credentials("alice", "secret"));
        assert_eq!(tag, cache.tag(&HASH, &credentials("alice", "secret")));
        for other in [("alices", "ecret"), ("alice", "secret "), ("bob", "secret")] {
            assert_ne!(tag, cache.tag(&HASH, &credentials(other.0, other.1)));
        }
        let changed = PasswordHash {
            hash: [3; 23],
            ..HASH
        };
        assert_ne!(tag, cache.tag(&changed, &credentials("alice", "secret")));
        let other = VerifiedCache::default();
        assert_ne!(tag, other.tag(&HASH, &credentials("alice", "secret")));
    }

    #[test]
    fn credentials_are_forgotten_after_a_while() {
        let (cache, now) = (VerifiedCache::default(), Instant::now());
        cache.insert([1; 32], now);
        assert!(cache.contains(&[1; 32], now));
        assert!(cache.contains(&[1; 32], now + LIFETIME - Duration::from_millis(1)));
        assert!(!cache.contains(&[1; 32], now + LIFETIME));
        assert!(!cache.contains(&[2; 32], now));
    }

    #[test]
    fn the_latest_credentials_are_kept_in_bounded_memory() {
        let (cache, now) = (VerifiedCache::default(), Instant::now());
        let tag = |number: usize| {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&number.to_be_bytes());
            tag
        };
        for number in 0..3 * GENERATION + 1 {
            cache.insert(tag(number), now);
        }
        let kept = (0..3 * GENERATION + 1).filter(|number| cache.contains(&tag(*number), now));
        assert_eq!(kept.count(), GENERATION + 1);
        assert!(cache.contains(&tag(3 * GENERATION), now));
        assert!(cache.contains(&tag(2 * GENERATION), now));
    }
}
